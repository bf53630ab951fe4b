#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "server/units.h"

namespace ballast {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

// Seconds; each about twice the one before, so that a quantile is off by a factor of two at most.
const Buckets kTokenBuckets = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                               0.1,    0.2,   0.5,   1,     2,    5,    10};
const Buckets kRequestBuckets = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                 1,     2,     5,     10,   20,   50,   100, 200, 500};

constexpr std::array<const char*, 11> kRejections = {
    "invalid",  "not_found", "duplicate",    "queue_full",      "slow_reader", "answer_too_large",
    "draining", "loading",   "no_tokenizer", "unauthenticated", "other"};

// In FinishReason's order.
constexpr std::array<const char*, 4> kFinishReasons = {"failed", "stop", "length", "aborted"};

const char* PhaseOf(const StepReport& report) {
  if (report.decode_rows == 0) return "prefill";
  return report.prefill_rows == 0 ? "decode" : "mixed";
}

// Label values must be UTF-8; a folder's name need not be.
std::string Utf8Label(std::string text) {
  for (size_t bad = FirstInvalidUtf8(text); bad < text.size(); bad = FirstInvalidUtf8(text)) {
    text[bad] = '?';
  }
  return text;
}

}  // namespace

struct Metrics::Families {
  prometheus::Registry registry;
  Gauge& running = AddGauge("requests_running", "Outputs that hold a place in the batch.");
  Gauge& waiting = AddGauge("requests_waiting", "Outputs that wait to be scheduled.");
  Gauge& kv_usage = AddGauge("kv_cache_usage_ratio", "Key-value blocks in use, of all blocks.");
  Gauge& progressing =
      AddGauge("progressing", "0 when a step has shown no life for 10 s; idle is progress.");
  Gauge& draining = AddGauge("draining", "1 when new requests are refused for good.");
  Histogram& first_token = AddHistogram("time_to_first_token_seconds",
                                        "From submission to the first token.", kRequestBuckets);
  Histogram& token_latency = AddHistogram("inter_token_latency_seconds",
                                          "Between two tokens of one output.", kTokenBuckets);
  Histogram& queue = AddHistogram("request_queue_seconds",
                                  "From submission to being scheduled first.", kRequestBuckets);
  Histogram& request =
      AddHistogram("request_seconds", "From submission to the end of a request.", kRequestBuckets);
  Counter& prompt_tokens = AddCounter("prompt_tokens_total", "Prompt tokens taken in.");
  Counter& generated_tokens = AddCounter("generated_tokens_total", "Tokens generated.");
  Counter& prefix_query =
      AddCounter("prefix_cache_query_tokens_total", "Prompt tokens looked up in the prefix cache.");
  Counter& prefix_hit =
      AddCounter("prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache.");
  Counter& preemptions =
      AddCounter("preemptions_total", "Outputs that gave their blocks back, to be recomputed.");
  std::array<Counter*, kFinishReasons.size()> finished;
  std::array<Counter*, kRejections.size()> rejected;
  std::map<std::string, Histogram*, std::less<>> steps;

  Families() {
    auto& requests = prometheus::BuildCounter()
                         .Name("ballast_requests_total")
                         .Help("Requests that are over, by how they ended.")
                         .Register(registry);
    for (size_t i = 0; i < kFinishReasons.size(); ++i) {
      finished[i] = &requests.Add({{"finish_reason", kFinishReasons[i]}});
    }
    auto& rejections = prometheus::BuildCounter()
                           .Name("ballast_requests_rejected_total")
                           .Help("Requests that were turned away, by reason.")
                           .Register(registry);
    for (size_t i = 0; i < kRejections.size(); ++i) {
      rejected[i] = &rejections.Add({{"reason", kRejections[i]}});
    }
    auto& step = prometheus::BuildHistogram()
                     .Name("ballast_step_seconds")
                     .Help("One step of the batch, by what it held.")
                     .Register(registry);
    for (const char* phase : {"prefill", "decode", "mixed"}) {
      steps[phase] = &step.Add({{"phase", phase}}, kTokenBuckets);
    }
  }

  Gauge& AddGauge(const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name("ballast_" + name).Help(help).Register(registry).Add({});
  }
  Counter& AddCounter(const std::string& name, const std::string& help) {
    return prometheus::BuildCounter().Name("ballast_" + name).Help(help).Register(registry).Add({});
  }
  Histogram& AddHistogram(const std::string& name, const std::string& help,
                          const Buckets& buckets) {
    return prometheus::BuildHistogram()
        .Name("ballast_" + name)
        .Help(help)
        .Register(registry)
        .Add({}, buckets);
  }
};

Metrics::Metrics(const MetricsShape& shape)
    : families_(std::make_unique<Families>()), experts_(shape) {}

Metrics::~Metrics() = default;

const char* Metrics::FinishLabel(FinishReason reason) {
  return kFinishReasons.at(static_cast<size_t>(reason));
}

EngineEvents Metrics::Events() {
  EngineEvents events;
  Families* families = families_.get();
  events.on_step = [families, experts = &experts_](const StepReport& report) {
    families->steps.find(PhaseOf(report))->second->Observe(report.seconds);
    if (report.preemptions > 0) families->preemptions.Increment(report.preemptions);
    experts->CountStep(report);
  };
  events.on_placement = [experts = &experts_](const PlacementReport& report) {
    experts->CountPlacement(report);
  };
  events.on_replan = [experts = &experts_](double seconds) { experts->CountReplan(seconds); };
  events.on_request_over = [families](const RequestReport& report) {
    families->finished.at(static_cast<size_t>(report.finish_reason))->Increment();
    families->request.Observe(report.seconds);
  };
  events.on_queue_time = [families](double seconds) { families->queue.Observe(seconds); };
  events.on_first_token = [families](double seconds) { families->first_token.Observe(seconds); };
  events.on_token_latency = [families](double seconds) {
    families->token_latency.Observe(seconds);
  };
  events.on_prefix_query = [families](int32_t query, int32_t hit) {
    families->prefix_query.Increment(query);
    families->prefix_hit.Increment(hit);
  };
  events.on_tokens = [families](int32_t prompt, int32_t generated) {
    families->prompt_tokens.Increment(prompt);
    families->generated_tokens.Increment(generated);
  };
  events.on_notice = [experts = &experts_](bool warning, const std::string&) {
    if (warning) experts->CountWarning();
  };
  return events;
}

void Metrics::CountRejected(std::string_view reason) {
  const auto at = std::find(kRejections.begin(), kRejections.end(), reason);
  const size_t index = at == kRejections.end() ? kRejections.size() - 1
                                               : static_cast<size_t>(at - kRejections.begin());
  families_->rejected.at(index)->Increment();
}

void Metrics::SetBuild(const std::string& version, const std::string& model,
                       const std::string& compute, const std::string& kernels) {
  prometheus::BuildGauge()
      .Name("ballast_build_info")
      .Help("Always 1; what runs stands in the labels.")
      .Register(families_->registry)
      .Add({{"version", version},
            {"model", Utf8Label(model)},
            {"compute", compute},
            {"kernels", kernels}})
      .Set(1);
}

std::string Metrics::Page(const EngineStats& stats) {
  families_->running.Set(stats.running);
  families_->waiting.Set(stats.waiting);
  families_->kv_usage.Set(stats.kv_usage_ratio);
  families_->progressing.Set(stats.progressing ? 1 : 0);
  families_->draining.Set(stats.draining ? 1 : 0);
  std::vector<prometheus::MetricFamily> page = families_->registry.Collect();
  std::vector<prometheus::MetricFamily> experts = experts_.Collect();
  std::move(experts.begin(), experts.end(), std::back_inserter(page));
  return prometheus::TextSerializer().Serialize(page);
}

std::string Metrics::ExpertPage() const {
  return prometheus::TextSerializer().Serialize(experts_.CollectExperts());
}

}  // namespace ballast
