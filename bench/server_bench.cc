// What the server adds to the engine, and what clients see at 64 streams.
//
//   server_bench [--streams N] [--threads N] [MODEL]
//
// Cost per token: the real gRPC server over an engine that only says tokens. Processor time is the
// server process's alone: clients run in another one. At a pace that a model could keep, each token
// is a message; flat out the server merges tokens that wait, so cost per token falls.
// Overflow: the bundled model busy with 64 outputs and its queue full; how long a refusal takes.
// End to end: 64 streams of the model in bf16 compute, as their clients see them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "bench/scripted_engine.h"
#include "bench/stream_client.h"
#include "engine/engine.h"
#include "server/grpc_server.h"

namespace ballast::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kRefusalTargetMs = 50;

// A server before an engine on a free port; both end with it.
class Served {
 public:
  explicit Served(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {
    GrpcOptions options;
    options.address = "127.0.0.1:0";
    auto server = GrpcServer::Start(options, {});
    if (!server.ok()) {
      std::fprintf(stderr, "%s\n", std::string(server.status().message()).c_str());
      return;
    }
    server_ = *std::move(server);
    server_->SetEngine(engine_.get());
  }
  ~Served() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::milliseconds(0));
  }
  bool ok() const { return server_ != nullptr; }
  const std::string& address() const { return server_->address(); }

 private:
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<GrpcServer> server_;
};

bool CostPerToken(int streams, int tokens, double rounds_per_second) {
  auto scripted = std::make_unique<ScriptedEngine>(ScriptedEngine::Script{
      .streams = streams, .tokens = tokens, .rounds_per_second = rounds_per_second});
  const ScriptedEngine& engine = *scripted;
  ClientPlan plan;
  plan.streams = streams;
  plan.prompt_tokens = 1;
  plan.vocab_size = scripted->info().config.vocab_size;
  plan.tokens = tokens;
  const Served served(std::move(scripted));
  if (!served.ok()) return false;
  plan.server = served.address();
  StreamFigures figures;
  if (!RunStreams(plan, figures)) return false;
  if (figures.failed > 0) return false;
  const ScriptedEngine::Times times = engine.times();
  const double wall = std::chrono::duration<double>(Clock::now() - times.begin).count();
  const double cpu = CpuSeconds(RUSAGE_SELF) - times.process_cpu_begin;
  const double microseconds = 1e6 / static_cast<double>(figures.tokens);
  const std::string pace = rounds_per_second > 0
                               ? std::to_string(std::lround(rounds_per_second * streams)) + " tok/s"
                               : "flat out";
  std::printf(
      "  %-12s %6.2f us processor (%.2f of it on the engine's loop), %6.2f us wall a token; "
      "%.2f tokens a message\n",
      pace.c_str(), cpu * microseconds, times.loop_cpu * microseconds, wall * microseconds,
      static_cast<double>(figures.tokens) / static_cast<double>(figures.chunks));
  return true;
}

std::unique_ptr<Engine> Load(const EngineOptions& options) {
  auto engine = Engine::Create(options, {}, [](size_t, size_t) {});
  if (engine.ok()) return *std::move(engine);
  std::fprintf(stderr, "%s\n", std::string(engine.status().message()).c_str());
  return nullptr;
}

bool Overflow(EngineOptions options, int streams) {
  options.max_running = streams;
  options.max_waiting = 16;
  std::unique_ptr<Engine> engine = Load(options);
  if (engine == nullptr) return false;
  ClientPlan plan;
  plan.streams = streams;
  plan.vocab_size = engine->info().config.vocab_size;
  plan.waiting = options.max_waiting;
  plan.requests = 640;
  const Served served(std::move(engine));
  if (!served.ok()) return false;
  plan.server = served.address();
  RefusalFigures figures;
  if (!RunOverflow(plan, figures)) return false;
  std::printf("  one by one   p50 %6.2f ms, p99 %6.2f ms, most %6.2f ms\n", figures.alone_ms_p50,
              figures.alone_ms_p99, figures.alone_ms_max);
  std::printf(
      "  %2d at once   p50 %6.2f ms, p99 %6.2f ms, most %6.2f ms; %d refused, %d not; "
      "target p99 %.0f ms: %s\n",
      plan.threads, figures.together_ms_p50, figures.together_ms_p99, figures.together_ms_max,
      figures.refused, figures.other, kRefusalTargetMs,
      std::max(figures.alone_ms_p99, figures.together_ms_p99) < kRefusalTargetMs ? "reached"
                                                                                 : "MISSED");
  return true;
}

bool EndToEnd(EngineOptions options, int streams) {
  options.max_running = streams;
  std::unique_ptr<Engine> engine = Load(options);
  if (engine == nullptr) return false;
  const ModelInfo info = engine->info();
  ClientPlan plan;
  plan.streams = streams;
  plan.vocab_size = info.config.vocab_size;
  const Served served(std::move(engine));
  if (!served.ok()) return false;
  plan.server = served.address();
  StreamFigures figures;
  if (!RunStreams(plan, figures)) return false;
  std::printf("  %s, %s compute, %s kernels: prompts of %d tokens, answers of %d\n",
              info.name.c_str(), info.compute.c_str(), info.kernels.c_str(), plan.prompt_tokens,
              plan.tokens);
  std::printf(
      "  %.0f tok/s generated; first token p50 %.0f ms, p99 %.0f ms; between tokens p50 "
      "%.1f ms, p99 %.1f ms%s\n",
      static_cast<double>(figures.tokens) / figures.seconds, figures.first_ms_p50,
      figures.first_ms_p99, figures.between_ms_p50, figures.between_ms_p99,
      figures.failed > 0 ? "; STREAMS FAILED" : "");
  return figures.failed == 0;
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app("What the server adds to the engine, and what clients see at 64 streams.");
  int streams = 64;
  EngineOptions options;
  options.model = BALLAST_SOURCE_DIR "/models/ballast-mini";
  app.add_option("MODEL", options.model, "checkpoint folder; default: the bundled model");
  app.add_option("--streams", streams, "at once")->check(CLI::Range(1, 64));
  app.add_option("--threads", options.threads, "of the engine; 0: one per core");
  CLI11_PARSE(app, argc, argv);

  std::printf("server's own cost at %d streams, %u cores\n", streams,
              std::thread::hardware_concurrency());
  bool ok = CostPerToken(streams, 200, 25) && CostPerToken(streams, 800, 100) &&
            CostPerToken(streams, 3200, 400) && CostPerToken(streams, 4000, 0);
  std::printf("refusals while %d outputs run and the queue is full\n", streams);
  ok = Overflow(options, streams) && ok;
  std::printf("end to end at %d streams\n", streams);
  ok = EndToEnd(options, streams) && ok;
  return ok ? 0 : 1;
}

}  // namespace ballast::bench

int main(int argc, char** argv) {
  int exit_code = 0;
  if (ballast::bench::RunClient(argc, argv, exit_code)) return exit_code;
  return ballast::bench::Main(argc, argv);
}
