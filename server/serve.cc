// `ballast serve`: puts engine, gRPC, HTTP, metrics and logs together, and takes them apart again.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/engine.h"
#include "engine/inspection.h"
#include "server/commands.h"
#include "server/grpc_server.h"
#include "server/http.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/serve_rank.h"
#include "server/signals.h"
#include "server/stop_request.h"
#include "server/units.h"

namespace ballast {
namespace {

using Clock = std::chrono::steady_clock;

// Answers of requests that are over, or were failed, still have to reach their clients.
constexpr std::chrono::seconds kLastAnswers(5);
constexpr std::chrono::milliseconds kDrainPoll(20);
constexpr std::chrono::milliseconds kEndPoll(250);
constexpr std::chrono::seconds kProgressInterval(1);

EngineEvents LoggedEvents(Metrics& metrics, Log& log) {
  EngineEvents events = metrics.Events();
  events.on_request_over = [count = std::move(events.on_request_over),
                            &log](const RequestReport& report) {
    count(report);
    if (!log.Enabled(LogLevel::kDebug)) return;
    log.Debug("request over", {{"finish_reason", Metrics::FinishLabel(report.finish_reason)},
                               {"prompt_tokens", report.usage.prompt_tokens},
                               {"cached_prompt_tokens", report.usage.cached_prompt_tokens},
                               {"completion_tokens", report.usage.completion_tokens},
                               {"seconds", report.seconds}});
  };
  events.on_notice = [count = std::move(events.on_notice), &log](bool warning,
                                                                 const std::string& text) {
    count(warning, text);
    log.Write(warning ? LogLevel::kWarning : LogLevel::kInfo, text, {});
  };
  return events;
}

absl::StatusOr<std::unique_ptr<GrpcServer>> StartGrpc(const ServeOptions& options, Metrics& metrics,
                                                      Log& log) {
  GrpcOptions grpc;
  grpc.address = options.grpc;
  grpc.version = BALLAST_VERSION;
  grpc.tls_cert = options.tls_cert;
  grpc.tls_key = options.tls_key;
  grpc.tls_client_ca = options.tls_client_ca;
  grpc.api_key_file = options.api_key_file;
  grpc.drain_seconds = options.drain_timeout_seconds;
  GrpcEvents events;
  events.on_rejected = [&metrics, &log](std::string_view reason) {
    metrics.CountRejected(reason);
    log.Debug("request rejected", {{"reason", reason}});
  };
  events.on_seed_drawn = [&log](std::string_view request_id, uint64_t seed) {
    log.Info("seed drawn", {{"request_id", request_id}, {"seed", seed}});
  };
  events.on_admin = [&log](std::string_view event, std::string_view detail) {
    log.Info(event, {{"by", "admin"}, {"detail", detail}});
  };
  return GrpcServer::Start(grpc, std::move(events));
}

// /health agrees with grpc.health.v1 and adds why.
HttpPage HealthPage(const GrpcServer& grpc, const Engine* engine) {
  const bool serving = grpc.serving();
  const char* state = "serving";
  if (engine == nullptr) {
    state = "loading";
  } else if (!serving) {
    const EngineStats stats = engine->Stats();
    state = stats.draining ? "draining" : stats.progressing ? "starting" : "stalled";
  }
  return {serving ? 200 : 503, "application/json", absl::StrCat("{\"status\":\"", state, "\"}\n")};
}

HttpPages MakePages(const GrpcServer& grpc, const std::atomic<Engine*>& engine, Metrics& metrics) {
  static constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";
  HttpPages pages;
  pages["/health"] = [&] { return HealthPage(grpc, engine.load()); };
  pages["/metrics"] = [&] {
    const Engine* loaded = engine.load();
    const EngineStats stats = loaded == nullptr ? EngineStats{} : loaded->Stats();
    return HttpPage{200, kPrometheusText, metrics.Page(stats)};
  };
  pages["/metrics/experts"] = [&] { return HttpPage{200, kPrometheusText, metrics.ExpertPage()}; };
  return pages;
}

void LogPlan(const ModelInspection& model, const ServeOptions& options, Log& log) {
  const ModelInfo& info = model.info;
  log.Info("model", {{"name", info.name},
                     {"model_type", info.config.model_type},
                     {"parameters", info.parameters},
                     {"active_parameters", info.active_parameters},
                     {"max_context", info.max_context}});
  log.Info("compute", {{"device", options.engine.device},
                       {"kernels", info.kernels},
                       {"compute", info.compute},
                       {"weights", info.weights},
                       {"ranks", info.ranks},
                       {"threads", model.threads}});
  if (!info.gpus.empty()) log.Info("hardware", {{"gpus", info.gpus}});
  log.Info("memory plan", {{"weights_bytes", model.plan.weights_bytes},
                           {"kv_bytes", model.kv_bytes},
                           {"kv_bytes_per_token", model.plan.kv_bytes_per_token},
                           {"kv_tokens", info.limits.kv_tokens},
                           {"workspace_bytes", model.plan.workspace_bytes}});
}

absl::StatusOr<std::unique_ptr<Engine>> LoadEngine(const ServeOptions& options, EngineEvents events,
                                                   const RankGathering* ranks, Log& log) {
  const Clock::time_point start = Clock::now();
  Clock::time_point next = start;
  const auto progress = [&](size_t done, size_t total) {
    const Clock::time_point now = Clock::now();
    if (now < next || total == 0) return;
    next = now + kProgressInterval;
    log.Info("loading",
             {{"percent", done * 100 / total}, {"done_bytes", done}, {"total_bytes", total}});
  };
  ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                   Engine::Create(options.engine, std::move(events), progress,
                                  ranks == nullptr ? nullptr : &ranks->group()));
  log.Info("loaded", {{"seconds", std::chrono::duration<double>(Clock::now() - start).count()}});
  return engine;
}

// Lets running requests finish within the limit; fails those that do not.
void Drain(Engine& engine, GrpcServer& grpc, double limit_seconds, Log& log) {
  engine.StartDrain();
  grpc.SetServing(false);
  log.Info("draining", {{"requests", engine.Stats().live}, {"limit_seconds", limit_seconds}});
  const auto limit =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit_seconds));
  const Clock::time_point deadline = Clock::now() + limit;
  while (engine.Stats().live > 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(kDrainPoll);
  }
  if (const int32_t left = engine.Stats().live; left > 0) {
    log.Warning("drain limit passed", {{"failed_requests", left}});
    engine.FailAll(absl::StrCat("the server is stopping, and its drain limit of ",
                                FormatSeconds(limit_seconds), " has passed"));
  }
  grpc.Shutdown(kLastAnswers);
}

// Returns when somebody asked to stop, or why nothing can be served any more.
absl::Status AwaitEnd(const Engine& engine, StopRequest& stop) {
  while (!stop.WaitFor(kEndPoll)) {
    const EngineStats stats = engine.Stats();
    if (!stats.failure.empty()) return absl::UnavailableError(stats.failure);
  }
  return absl::OkStatus();
}

// `launch`: of which world of processes this is the leader; null: all ranks are threads.
absl::Status Serve(const ServeOptions& options, const Launch* launch, StopRequest& stop, Log& log) {
  ASSIGN_OR_RETURN(const ModelInspection model, InspectModel(options.engine));
  if (!model.plan.unsupported.empty()) {
    return absl::UnimplementedError(
        absl::StrCat(options.engine.model, ": ", absl::StrJoin(model.plan.unsupported, "; ")));
  }
  LogPlan(model, options, log);
  for (const std::string& warning : model.warnings) log.Warning("placement", {{"what", warning}});
  RETURN_IF_ERROR(model.fits);
  const ModelConfig& config = model.info.config;
  Metrics metrics({MoeLayers(config), config.experts, model.info.ranks, options.expert_series});
  if (metrics.aggregated_experts() > 0) {
    log.Warning("experts share series on /metrics/experts",
                {{"experts", metrics.aggregated_experts()}, {"limit", options.expert_series}});
  }

  // Ends in reverse: HTTP and gRPC ask the engine, the engine feeds the metrics.
  std::unique_ptr<Engine> engine;
  std::atomic<Engine*> loaded = nullptr;
  ASSIGN_OR_RETURN(const std::unique_ptr<GrpcServer> grpc, StartGrpc(options, metrics, log));
  HttpOptions http_options;
  http_options.address = options.http;
  ASSIGN_OR_RETURN(const std::unique_ptr<HttpServer> http,
                   HttpServer::Start(http_options, MakePages(*grpc, loaded, metrics)));
  log.Info("listening", {{"grpc", grpc->address()}, {"http", http->address()}});

  std::unique_ptr<RankGathering> ranks;
  if (launch != nullptr) {
    ASSIGN_OR_RETURN(ranks, RankGathering::Gather(options, *launch, log));
  }
  ASSIGN_OR_RETURN(engine, LoadEngine(options, LoggedEvents(metrics, log), ranks.get(), log));
  const ModelInfo& info = engine->info();
  metrics.SetBuild(BALLAST_VERSION, info.name, info.compute, info.kernels);
  metrics.SetPlacement(engine->GetPlacement());
  stop.SetLoaded();
  loaded = engine.get();
  grpc->SetEngine(engine.get());
  log.Info("serving", {{"model", info.name}, {"max_context", info.max_context}});

  absl::Status end = AwaitEnd(*engine, stop);
  if (!end.ok()) log.Error("ranks are lost", {{"error", std::string(end.message())}});
  Drain(*engine, *grpc, options.drain_timeout_seconds, log);
  log.Info("stopped");
  return end;
}

// As the options and the launcher say: alone, as the leader of other processes, or as one of them.
absl::Status ServeAs(ServeOptions& options, const std::optional<Launch>& launch, StopRequest& stop,
                     Log& log) {
  if (!launch) return Serve(options, nullptr, stop, log);
  options.engine.communicator = options.launch.communicator;
  options.engine.ranks = launch->size;
  options.engine.machine_ranks = launch->machine_ranks;
  if (launch->rank != 0) return ServeRank(options, *launch, stop, log);
  return Serve(options, &*launch, stop, log);
}

}  // namespace

int RunServe(const std::vector<std::string>& arguments) {
  ServeOptions options;
  const auto answer = ReadServeOptions(arguments, options);
  if (!answer.ok()) return ReportUsage("serve", answer.status());
  if (*answer) {
    std::fputs((*answer)->c_str(), stdout);
    return kDone;
  }
  std::optional<Launch> launch;
  const std::string& communicator = options.launch.communicator;
  if (communicator == "gloo" || communicator == "nccl") {
    absl::StatusOr<Launch> found =
        ResolveLaunch(options.launch, [](const char* name) { return std::getenv(name); });
    if (!found.ok()) return ReportUsage("serve", found.status());
    launch = *std::move(found);
  }
  Log log(options.log);
  StopRequest stop(log);
  // Before anything starts a thread: they all inherit the held signals.
  const StopSignals signals([&stop](int count) { stop.OnSignal(count); });
  log.Debug("descriptors", {{"limit", RaiseDescriptorLimit()}});
  const absl::Status status = ServeAs(options, launch, stop, log);
  if (status.ok()) return kDone;
  log.Error("cannot serve", {{"error", std::string(status.message())}});
  return kFailed;
}

}  // namespace ballast
