// `ballast generate`: a client of TextGeneration for the terminal and for scripts.
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ballast/v1/text_generation.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/signals.h"
#include "server/units.h"

namespace ballast {
namespace {

// What the server receives at most.
constexpr size_t kMaxPromptBytes = size_t{64} << 20;

int Fail(const std::string& message) {
  std::fprintf(stderr, "ballast generate: %s\n", message.c_str());
  return kFailed;
}

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

absl::StatusOr<std::string> ReadFile(const std::string& flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty()) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read '", path, "'"));
  }
  return text.str();
}

// The first line that holds a key; the server's own file may serve.
absl::StatusOr<std::string> ReadApiKey(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile("--api-key-file", path));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string key(absl::StripAsciiWhitespace(line));
    if (!key.empty() && key[0] != '#') return key;
  }
  return absl::InvalidArgumentError(absl::StrCat("--api-key-file: found no key in '", path, "'"));
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

absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const GenerateOptions& options) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!options.tls_ca.empty()) {
    grpc::SslCredentialsOptions tls;
    ASSIGN_OR_RETURN(tls.pem_root_certs, ReadFile("--tls-ca", options.tls_ca));
    credentials = grpc::SslCredentials(tls);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(options.server, credentials, arguments);
}

void PrintDetails(const std::string& serialized) {
  google::rpc::Status status;
  if (!status.ParseFromString(serialized)) return;
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        const std::string& description = violation.description();
        // Ours begin with the path already.
        const bool named = absl::StartsWith(description, violation.field() + ":");
        std::fprintf(stderr, "  field %s%s\n",
                     named ? "" : absl::StrCat(violation.field(), ": ").c_str(),
                     description.c_str());
      }
    } else if (detail.UnpackTo(&info)) {
      std::fprintf(stderr, "  reason %s\n", info.reason().c_str());
    } else if (detail.UnpackTo(&retry)) {
      const double seconds = static_cast<double>(retry.retry_delay().seconds()) +
                             static_cast<double>(retry.retry_delay().nanos()) * 1e-9;
      std::fprintf(stderr, "  try again in %s\n", FormatSeconds(seconds).c_str());
    }
  }
}

// `stopped`: cancelled from here, so nobody needs to be told.
int Report(const grpc::Status& status, bool stopped, const std::string& server) {
  if (status.ok()) return kDone;
  if (stopped && status.error_code() == grpc::StatusCode::CANCELLED) return kFailed;
  // Our server gives every error details; this one comes from the way there.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    return Fail(
        absl::StrCat("no connection to the server at ", server, ": ", status.error_message()));
  }
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  Fail(absl::StrCat(absl::StatusCodeToString(code), ": ", status.error_message()));
  PrintDetails(status.error_details());
  return kFailed;
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
  std::puts(json.c_str());
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
  if (!prompt.ok()) return Fail(std::string(prompt.status().message()));
  const v1::GenerateRequest request = MakeRequest(options, *std::move(prompt));

  grpc::ClientContext context;
  if (!options.api_key_file.empty()) {
    const absl::StatusOr<std::string> key = ReadApiKey(options.api_key_file);
    if (!key.ok()) return Fail(std::string(key.status().message()));
    context.AddMetadata("authorization", "Bearer " + *key);
  }
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
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(options);
  if (!channel.ok()) return Fail(std::string(channel.status().message()));
  const auto stub = v1::TextGeneration::NewStub(*channel);
  const grpc::Status status =
      options.json ? Answer(*stub, context, request) : Stream(*stub, context, request, stopped);
  return Report(status, stopped, options.server);
}

}  // namespace ballast
