#include "server/options.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/knobs.h"
#include "server/launch_options.h"
#include "server/units.h"

namespace ballast {
namespace {

constexpr char kServeSummary[] =
    "Load a model and answer text generation requests over gRPC; metrics and health over HTTP.";
constexpr char kServeExamples[] =
    "Examples:\n"
    "  ballast serve models/ballast-mini\n"
    "  ballast serve /models/olmoe --grpc 0.0.0.0:7000 --kv-memory 8GiB --compute bf16\n"
    "  ballast serve --config serve.yaml --log-format json\n\n"
    "Ready when grpc.health.v1 says SERVING. SIGTERM finishes what is running, a second one stops.";

constexpr char kGenerateSummary[] = "Ask a running server to continue a text; streams to stdout.";
constexpr char kGenerateExamples[] =
    "Examples:\n"
    "  ballast generate \"The experts\"\n"
    "  ballast generate --temperature 0 --max-tokens 40 --json \"1 + 1 =\"\n"
    "  ballast generate - < prompt.txt";

constexpr char kInspectSummary[] =
    "Say what a model folder holds and what serving it takes, without loading it.";
constexpr char kInspectExamples[] =
    "Examples:\n"
    "  ballast inspect models/ballast-mini\n"
    "  ballast inspect --json --max-context 8192 /models/olmoe";

constexpr char kPlanSummary[] =
    "Print where a model's experts stand, as a placement file; checks and converts one.";
constexpr char kPlanExamples[] =
    "Examples:\n"
    "  ballast plan --ranks 4 --slots-per-rank 18 /models/olmoe > placement.yaml\n"
    "  ballast plan --ranks 8 --placement eplb.json --format tensorrt-llm /models/deepseek";

constexpr char kTopSummary[] = "Show what the experts of a running server do, live.";
constexpr char kTopExamples[] =
    "Examples:\n"
    "  ballast top\n"
    "  ballast top --server 10.0.0.7:7000 --interval 5s\n"
    "  ballast top --once --window 60s\n\n"
    "Ctrl-C ends it. Without a terminal it prints frame after frame in plain text; NO_COLOR is "
    "heeded.";

// What the wire and the kernels know but this build lacks is refused by name, not as a typing
// error.
Knob OnlyChoiceKnob(std::string name, std::string only, std::string later, std::string* target,
                    std::string help) {
  Knob knob = ChoiceKnob(std::move(name), {only}, target, std::move(help));
  knob.set = [only, later](std::string_view text) -> absl::Status {
    if (text == only) return absl::OkStatus();
    return BadValue(text, absl::StrCat(only, " (", later, " not in this build)"));
  };
  return knob;
}

Knob ModelKnob(std::string* target) {
  Knob knob = TextKnob("model", "MODEL", target, "Folder of a Hugging Face checkpoint");
  knob.positional = true;
  return knob;
}

void AddPlacementKnobs(EngineOptions& engine, std::vector<Knob>& knobs) {
  knobs.push_back(CountKnob("ranks", 1, 64, &engine.ranks,
                            "Ranks in this process; experts are spread over them"));
  knobs.push_back(TextKnob("placement", "FILE", &engine.placement,
                           "Which ranks hold which experts: YAML, or TensorRT-LLM's or SGLang's "
                           "file; default: spread evenly"));
  knobs.push_back(CountKnob("slots-per-rank", 0, 4096, &engine.slots_per_rank,
                            "Places for experts on a rank, in each layer; 0: what the placement "
                            "says, else the fewest that hold all"));
}

void AddEngineKnobs(EngineOptions& engine, std::vector<Knob>& knobs) {
  knobs.push_back(ModelKnob(&engine.model));
  Knob served = TextKnob("served-model-name", "NAME", &engine.served_model_name,
                         "The model's name for clients; default: the folder's name");
  served.set = [target = &engine.served_model_name](std::string_view text) -> absl::Status {
    constexpr size_t kMaxName = 256;
    if (text.empty() || text.size() > kMaxName || FirstInvalidUtf8(text) != text.size()) {
      return BadValue(text, absl::StrCat("1 to ", kMaxName, " bytes of UTF-8"));
    }
    *target = std::string(text);
    return absl::OkStatus();
  };
  knobs.push_back(std::move(served));
  knobs.push_back(ChoiceKnob("device", {"cpu", "cuda"}, &engine.device,
                             "What computes; cuda: a GPU for each rank"));
  knobs.push_back(ChoiceKnob("kernels", {"auto", "reference", "avx2", "avx512"}, &engine.kernels,
                             "Inner loops; auto takes the widest this processor runs"));
  knobs.push_back(ChoiceKnob("compute", {"exact", "bf16"}, &engine.compute,
                             "Activations: exact is float32, bf16 is faster"));
  knobs.push_back(OnlyChoiceKnob("weights", "bf16", "int8 and int4 are", &engine.weights,
                                 "Weights in memory; bf16: as published"));
  AddPlacementKnobs(engine, knobs);
  knobs.push_back(CountKnob("threads", 0, 4096, &engine.threads,
                            "Compute threads of a rank; 0: the cores, shared by the ranks"));
  knobs.push_back(BytesKnob("kv-memory", &engine.kv_memory_bytes,
                            "A rank's keys and values; 0: 1GiB, less when the context needs less"));
  knobs.push_back(CountKnob("max-context", 0, 1 << 24, &engine.max_context,
                            "Tokens of prompt and output together; 0: the model's"));
  knobs.push_back(CountKnob("step-tokens", 1, 1 << 16, &engine.step_tokens,
                            "Rows of one step on all ranks: decodes and chunks of prefill"));
  knobs.push_back(
      CountKnob("max-running", 1, 1 << 14, &engine.max_running, "Outputs generated at once"));
  knobs.push_back(CountKnob("max-waiting", 1, 1 << 20, &engine.max_waiting,
                            "Requests that may wait; more get RESOURCE_EXHAUSTED"));
  knobs.push_back(CountKnob("max-waiting-tokens", 1, int64_t{1} << 40, &engine.max_waiting_tokens,
                            "Prompt tokens that may wait, likewise"));
}

void AddBalanceKnobs(EngineOptions& engine, std::vector<Knob>& knobs) {
  knobs.push_back(
      ChoiceKnob("balance", {"off", "observe", "assign", "spill", "full"}, &engine.balance,
                 "off: nothing; observe: plans and logs, acts on nothing; assign: split "
                 "rows over replicas; spill: and lend experts; full: and replan"));
  knobs.push_back(SecondsKnob("replan-interval", 0.1, 86400, &engine.replan_interval,
                              "Between plans for new placements"));
  Knob bandwidth = BytesKnob("move-bandwidth", &engine.move_bytes_per_second,
                             "Weights per second that replans move at most");
  bandwidth.set = [set = bandwidth.set,
                   target = &engine.move_bytes_per_second](std::string_view text) -> absl::Status {
    RETURN_IF_ERROR(set(text));
    return *target > 0 ? absl::OkStatus() : BadValue(text, "at least one byte");
  };
  knobs.push_back(std::move(bandwidth));
  knobs.push_back(TextKnob("balance-state", "FILE", &engine.balance_state,
                           "Where placement and costs are kept for the next start"));
  Knob labels{.name = "node-labels",
              .value = "A,B,..",
              .help =
                  "A label per rank; ranks of one label share a machine and prefer each other's "
                  "replicas"};
  labels.set = [target = &engine.node_labels](std::string_view text) -> absl::Status {
    *target = absl::StrSplit(std::string(text), ',');
    const bool whole = std::none_of(target->begin(), target->end(),
                                    [](const std::string& label) { return label.empty(); });
    return whole ? absl::OkStatus() : BadValue(text, "labels with commas between them");
  };
  knobs.push_back(std::move(labels));
  const auto add_test = [&](Knob knob) {
    knob.hidden = true;
    knobs.push_back(std::move(knob));
  };
  add_test(SwitchKnob("test-force-spills", &engine.test_force_spills, "Spill in every layer"));
  add_test(CountKnob("test-slow-rank", -1, 4096, &engine.test_slow_rank, "The rank that is slow"));
  add_test(SecondsKnob("test-slowdown", 1, 1000, &engine.test_slowdown, "How slow, times"));
}

std::vector<Knob> ServeKnobs(ServeOptions& options) {
  std::vector<Knob> knobs;
  AddEngineKnobs(options.engine, knobs);
  AddLaunchKnobs(options, knobs);
  AddBalanceKnobs(options.engine, knobs);
  knobs.push_back(AddressKnob("grpc", &options.grpc, "Where gRPC listens; port 0: a free one"));
  knobs.push_back(AddressKnob("http", &options.http,
                              "Where HTTP listens: /metrics, /metrics/experts, /health"));
  knobs.push_back(SecondsKnob("drain-timeout", 0, 86400, &options.drain_timeout_seconds,
                              "After SIGTERM, how long running requests may take to finish"));
  knobs.push_back(
      TextKnob("tls-cert", "FILE", &options.tls_cert, "Certificate chain (PEM): gRPC over TLS"));
  knobs.push_back(TextKnob("tls-key", "FILE", &options.tls_key, "Private key of --tls-cert (PEM)"));
  knobs.push_back(TextKnob("tls-client-ca", "FILE", &options.tls_client_ca,
                           "Ask clients for certificates that these authorities signed (PEM)"));
  knobs.push_back(TextKnob("api-key-file", "FILE", &options.api_key_file,
                           "Keys, one per line; clients send one as a bearer token"));
  knobs.push_back(CountKnob("expert-series", 1, 10'000'000, &options.expert_series,
                            "Series on /metrics/experts at most; other experts are summed up"));
  knobs.push_back(ChoiceKnob("log-level", {"debug", "info", "warning", "error"}, &options.log.level,
                             "Least severe lines to log"));
  knobs.push_back(ChoiceKnob("log-format", {"text", "json"}, &options.log.format,
                             "Log lines as key=value text or as JSON"));
  Knob config = TextKnob("config", "FILE", &options.config,
                         "YAML file of these options (kv_memory: 2GiB); flags win over it");
  config.in_file = false;
  knobs.push_back(std::move(config));
  return knobs;
}

Knob SeedKnob(std::optional<uint64_t>* target) {
  Knob knob{.name = "seed", .value = "N", .help = "Same seed, same text; default: drawn"};
  knob.set = [target](std::string_view text) -> absl::Status {
    uint64_t seed = 0;
    if (!absl::SimpleAtoi(std::string(text), &seed))
      return BadValue(text, "a whole number, 0 to 2^64 - 1");
    *target = seed;
    return absl::OkStatus();
  };
  return knob;
}

// How a client is let in: of any options that have these.
template <typename Options>
void AddAccessKnobs(Options& options, std::vector<Knob>& knobs) {
  knobs.push_back(
      TextKnob("api-key-file", "FILE", &options.api_key_file, "Its first line is the key to send"));
  knobs.push_back(
      TextKnob("tls-ca", "FILE", &options.tls_ca, "Use TLS and trust these authorities (PEM)"));
}

std::vector<Knob> GenerateKnobs(GenerateOptions& options) {
  std::vector<Knob> knobs;
  Knob prompt =
      TextKnob("prompt", "PROMPT", &options.prompt, "Text to continue; -: read it from stdin");
  prompt.positional = true;
  knobs.push_back(std::move(prompt));
  knobs.push_back(AddressKnob("server", &options.server, "The server's gRPC address"));
  knobs.push_back(TextKnob("model", "NAME", &options.model, "Served model; default: whichever"));
  knobs.push_back(SwitchKnob("json", &options.json,
                             "Wait for the whole answer and print it as JSON (GenerateResponse)"));
  knobs.push_back(OptionalCountKnob("max-tokens", 0, 1 << 24, &options.max_tokens,
                                    "Tokens to generate at most; default: to the context's end"));
  knobs.push_back(OptionalNumberKnob("temperature", &options.temperature,
                                     "0: always the likeliest token; default: the model's"));
  knobs.push_back(OptionalNumberKnob("top-p", &options.top_p,
                                     "Draw from the likeliest tokens that make up this share"));
  knobs.push_back(OptionalCountKnob("top-k", -1, 1 << 24, &options.top_k,
                                    "Draw from the k likeliest tokens; 0: from all"));
  knobs.push_back(OptionalNumberKnob("min-p", &options.min_p,
                                     "Drop tokens below this share of the likeliest one"));
  knobs.push_back(OptionalNumberKnob("repetition-penalty", &options.repetition_penalty,
                                     "Above 1: make tokens of prompt and output less likely"));
  knobs.push_back(SeedKnob(&options.seed));
  knobs.push_back(ListKnob("stop", "TEXT", &options.stop, "End before this text; may be repeated"));
  knobs.push_back(SwitchKnob("ignore-eos", &options.ignore_eos, "Go on past the end token"));
  knobs.push_back(SecondsKnob("timeout", 0, 86400, &options.timeout_seconds,
                              "Give up after this time; 0: never"));
  AddAccessKnobs(options, knobs);
  return knobs;
}

std::vector<Knob> TopKnobs(TopOptions& options) {
  std::vector<Knob> knobs;
  knobs.push_back(AddressKnob("server", &options.server, "The server's gRPC address"));
  knobs.push_back(SecondsKnob("interval", 0.01, 3600, &options.interval_seconds,
                              "Time between two frames; each shows the load since the last one"));
  knobs.push_back(SwitchKnob("once", &options.once, "Print one frame and end"));
  knobs.push_back(SecondsKnob("window", 0, 86400, &options.window_seconds,
                              "With --once: show so much of the past; 0: since the start"));
  AddAccessKnobs(options, knobs);
  return knobs;
}

std::vector<Knob> InspectKnobs(InspectOptions& options) {
  std::vector<Knob> knobs;
  AddEngineKnobs(options.engine, knobs);
  knobs.push_back(SwitchKnob("json", &options.json, "Print JSON"));
  return knobs;
}

std::vector<Knob> PlanKnobs(PlanOptions& options) {
  std::vector<Knob> knobs = {ModelKnob(&options.engine.model)};
  AddPlacementKnobs(options.engine, knobs);
  knobs.push_back(ChoiceKnob("format", {"yaml", "tensorrt-llm", "sglang"}, &options.format,
                             "For which server to print it; yaml: this one"));
  return knobs;
}

absl::Status CheckModelGiven(const EngineOptions& options) {
  if (!options.model.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("MODEL: found nothing, expected the folder of a checkpoint");
}

absl::Status CheckTls(const ServeOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key: found one of them, expected both or none");
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-ca: found without --tls-cert, expected with it");
  }
  return absl::OkStatus();
}

const CommandText& ServeText() {
  static const CommandText text{"serve", kServeSummary, kServeExamples};
  return text;
}

const CommandText& GenerateText() {
  static const CommandText text{"generate", kGenerateSummary, kGenerateExamples};
  return text;
}

const CommandText& InspectText() {
  static const CommandText text{"inspect", kInspectSummary, kInspectExamples};
  return text;
}

const CommandText& PlanText() {
  static const CommandText text{"plan", kPlanSummary, kPlanExamples};
  return text;
}

const CommandText& TopText() {
  static const CommandText text{"top", kTopSummary, kTopExamples};
  return text;
}

}  // namespace

absl::StatusOr<std::optional<std::string>> ReadServeOptions(
    const std::vector<std::string>& arguments, ServeOptions& options) {
  ASSIGN_OR_RETURN(auto answer, ReadArguments(ServeText(), ServeKnobs(options), arguments));
  if (answer) return answer;
  RETURN_IF_ERROR(CheckModelGiven(options.engine));
  RETURN_IF_ERROR(CheckLaunch(options));
  RETURN_IF_ERROR(CheckTls(options));
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> ReadGenerateOptions(
    const std::vector<std::string>& arguments, GenerateOptions& options) {
  bool given = false;
  std::vector<Knob> knobs = GenerateKnobs(options);
  knobs.front().set = [&given, &options](std::string_view text) {
    given = true;
    options.prompt = std::string(text);
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(auto answer, ReadArguments(GenerateText(), knobs, arguments));
  if (answer) return answer;
  if (!given) {
    return absl::InvalidArgumentError("PROMPT: found nothing, expected a text or - for stdin");
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> ReadInspectOptions(
    const std::vector<std::string>& arguments, InspectOptions& options) {
  ASSIGN_OR_RETURN(auto answer, ReadArguments(InspectText(), InspectKnobs(options), arguments));
  if (answer) return answer;
  RETURN_IF_ERROR(CheckModelGiven(options.engine));
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> ReadPlanOptions(
    const std::vector<std::string>& arguments, PlanOptions& options) {
  ASSIGN_OR_RETURN(auto answer, ReadArguments(PlanText(), PlanKnobs(options), arguments));
  if (answer) return answer;
  RETURN_IF_ERROR(CheckModelGiven(options.engine));
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> ReadTopOptions(const std::vector<std::string>& arguments,
                                                          TopOptions& options) {
  return ReadArguments(TopText(), TopKnobs(options), arguments);
}

std::string DescribeOptions() {
  ServeOptions serve;
  GenerateOptions generate;
  InspectOptions inspect;
  PlanOptions plan;
  TopOptions top;
  return absl::StrCat(
      "# Options\n\nMade from the tables in server/options.cc by `ballast --help-markdown`.\n"
      "Sizes take B, kB, MB, GB, KiB, MiB, GiB; times take ms, s, m, h. With `serve --config "
      "FILE`\n"
      "the same names stand in a YAML map, with `-` or `_`; flags win over the file.\n\n",
      DescribeKnobs(ServeText(), ServeKnobs(serve)), "\n",
      DescribeKnobs(GenerateText(), GenerateKnobs(generate)), "\n",
      DescribeKnobs(InspectText(), InspectKnobs(inspect)), "\n",
      DescribeKnobs(PlanText(), PlanKnobs(plan)), "\n", DescribeKnobs(TopText(), TopKnobs(top)));
}

}  // namespace ballast
