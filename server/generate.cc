// `ballast generate`: a client of TextGeneration for the terminal and for scripts.
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "ballast/v1/text_generation.grpc.pb.h"
#include "server/client.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/signals.h"
#include "server/units.h"

namespace ballast {
namespace {

// What the server receives at most.
constexpr size_t kMaxPromptBytes = size_t{64} << 20;
constexpr char kName[] = "generate";

// The text behind "-", or the argument itself; whole UTF-8, since the wire takes no other.
absl::StatusOr<std::string> ReadPrompt(const std::string& argument) {
  std::string text = argument;
  const bool from_stdin = argument == "-";
  if (from_stdin) {
    text.clear();
    char piece[1 << 16];
    while (const size_t read = std::fread(piece, 1, sizeof(piece), stdin)) {
      text.append(piece, read);
      if (text.size() > kMaxPromptBytes) {
        return absl::InvalidArgumentError(
            absl::StrCat("stdin: found more than ", kMaxPromptBytes, " bytes"));
      }
    }
    if (std::ferror(stdin) != 0) return absl::UnavailableError("stdin: cannot be read");
  }
  if (const size_t bad = FirstInvalidUtf8(text); bad != text.size()) {
    const auto byte = static_cast<unsigned char>(text[bad]);
    return absl::InvalidArgumentError(
        absl::StrCat(from_stdin ? "stdin" : "PROMPT", ": found byte 0x",
                     absl::Hex(byte, absl::kZeroPad2), " at offset ", bad, ", expected UTF-8"));
  }
  return text;
}

v1::GenerateRequest MakeRequest(const GenerateOptions& options, std::string prompt) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  request.set_text(std::move(prompt));
  v1::SamplingParams& sampling = *request.mutable_sampling();
  const auto number = [](double value) { return static_cast<float>(value); };
  if (options.temperature) sampling.set_temperature(number(*options.temperature));
  if (options.top_p) sampling.set_top_p(number(*options.top_p));
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.min_p) sampling.set_min_p(number(*options.min_p));
  if (options.repetition_penalty) {
    sampling.set_repetition_penalty(number(*options.repetition_penalty));
  }
  if (options.seed) sampling.set_seed(*options.seed);
  v1::StoppingOptions& stopping = *request.mutable_stopping();
  if (options.max_tokens) stopping.set_max_tokens(*options.max_tokens);
  for (const std::string& stop : options.stop) stopping.add_stop(stop);
  if (options.ignore_eos) stopping.set_ignore_eos(true);
  return request;
}

grpc::Status Stream(v1::TextGeneration::Stub& stub, grpc::ClientContext& context,
                    const v1::GenerateRequest& request, std::atomic<bool>& stopped) {
  const auto reader = stub.GenerateStream(&context, request);
  v1::GenerateChunk chunk;
  bool whole_line = true;
  while (reader->Read(&chunk)) {
    const std::string& text = chunk.text();
    if (text.empty()) continue;
    whole_line = text.back() == '\n';
    // Nobody reads on: a closed pipe is an end like Ctrl-C.
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
      stopped = true;
      context.TryCancel();
    }
  }
  // The next prompt of a shell begins on a line of its own; a pipe gets the text alone.
  if (!whole_line && isatty(STDOUT_FILENO) != 0) std::puts("");
  return reader->Finish();
}

grpc::Status Answer(v1::TextGeneration::Stub& stub, grpc::ClientContext& context,
                    const v1::GenerateRequest& request) {
  v1::GenerateResponse response;
  grpc::Status status = stub.Generate(&context, request, &response);
  if (!status.ok()) return status;
  google::protobuf::util::JsonPrintOptions format;
  format.preserve_proto_field_names = true;
  format.always_print_primitive_fields = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(response, &json, format);
  if (!printed.ok()) return {grpc::StatusCode::INTERNAL, "the answer cannot be shown as JSON"};
  if (std::puts(json.c_str()) < 0 || std::fflush(stdout) != 0) {
    return {grpc::StatusCode::DATA_LOSS, "stdout: the answer cannot be written"};
  }
  return status;
}

}  // namespace

int RunGenerate(const std::vector<std::string>& arguments) {
  GenerateOptions options;
  const auto answer = ReadGenerateOptions(arguments, options);
  if (!answer.ok()) return ReportUsage("generate", answer.status());
  if (*answer) {
    std::fputs((*answer)->c_str(), stdout);
    return kDone;
  }
  absl::StatusOr<std::string> prompt = ReadPrompt(options.prompt);
  if (!prompt.ok()) return Fail(kName, std::string(prompt.status().message()));
  const v1::GenerateRequest request = MakeRequest(options, *std::move(prompt));

  grpc::ClientContext context;
  const ClientOptions client = {options.server, options.api_key_file, options.tls_ca};
  const absl::Status key = AddApiKey(client, context);
  if (!key.ok()) return Fail(kName, std::string(key.message()));
  if (options.timeout_seconds > 0) {
    context.set_deadline(
        std::chrono::system_clock::now() +
        std::chrono::milliseconds(static_cast<int64_t>(options.timeout_seconds * 1e3)));
  }
  // Only now: while stdin is read, Ctrl-C must end the process.
  std::atomic<bool> stopped = false;
  const StopSignals signals([&context, &stopped](int count) {
    if (count > 1) std::_Exit(kFailed);
    stopped = true;
    context.TryCancel();
  });
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(client);
  if (!channel.ok()) return Fail(kName, std::string(channel.status().message()));
  const auto stub = v1::TextGeneration::NewStub(*channel);
  const grpc::Status status =
      options.json ? Answer(*stub, context, request) : Stream(*stub, context, request, stopped);
  if (status.ok()) return kDone;
  // Cancelled from here: nobody needs to be told.
  if (stopped && status.error_code() == grpc::StatusCode::CANCELLED) return kFailed;
  return Fail(kName, status, options.server);
}

}  // namespace ballast
