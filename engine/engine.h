// The engine: requests in, tokens out. One loop thread: schedule -> run the step on all ranks ->
// advance sequences -> callbacks. This header and the plain structs it names are all that server/
// sees of the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/balancing.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/config.h"
#include "engine/options.h"
#include "engine/process_group.h"
#include "engine/request.h"
#include "engine/status.h"
#include "engine/step.h"
#include "engine/tokenizer/tokenizer.h"

namespace ballast {

enum class FinishReason : uint8_t { kNone, kStop, kLength, kAborted };

// Expert choices of the tokens that went through the model; [tokens, layers, k], best first.
struct RoutedExperts {
  int32_t tokens = 0;
  int32_t k = 0;
  std::vector<int32_t> layers;
  int32_t bytes_per_id = 1;  // 2 little-endian above 256 experts
  std::string ids;
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;  // of all outputs
  int32_t cached_prompt_tokens = 0;
};

// News of one output. Texts, ids and log-probabilities are deltas.
struct OutputDelta {
  int32_t index = 0;
  std::string text;  // whole UTF-8 only
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;  // on the first delta of the request, when asked for
  FinishReason finish_reason = FinishReason::kNone;  // set on the output's last delta
  std::string stop_match;                            // the stop string that ended it
  std::optional<RoutedExperts> routed_experts;       // on the output's last delta
  std::optional<Usage> usage;                        // on the request's last delta: all is over
};

// Called from the engine's loop thread, one call at a time per request; must not block. When the
// status is not OK the request has failed, the delta is empty, and no further call comes.
using OutputCallback = std::function<void(absl::Status status, OutputDelta delta)>;

struct ModelInfo {
  std::string name;
  ModelConfig config;
  GenerationDefaults defaults;
  int64_t parameters = 0;
  int64_t active_parameters = 0;
  int32_t max_context = 0;  // what is served: the model's, or --max-context
  std::string compute;      // "exact", "bf16"
  std::string weights;      // "bf16"
  std::string kernels;      // "avx512"
  std::string gpus;         // "4 x NVIDIA H100 80GB HBM3, sm_90", for ranks here; empty: a CPU
  int32_t ranks = 1;
  RequestLimits limits;
};

// What a step did, for metrics. Called from the loop thread.
struct StepReport {
  double seconds = 0;
  int32_t prefill_rows = 0;  // rows of chunks of prefill
  int32_t decode_rows = 0;
  int32_t preemptions = 0;
  const StepResult* result = nullptr;
  const StepPlan* plan = nullptr;  // costs, placement_version
};

// A request that is over, for metrics.
struct RequestReport {
  FinishReason finish_reason = FinishReason::kNone;  // kNone: failed
  Usage usage;
  double seconds = 0;
};

// Hooks for metrics; all optional, all called from the loop thread.
struct EngineEvents {
  std::function<void(const StepReport&)> on_step;
  std::function<void(const RequestReport&)> on_request_over;
  std::function<void(double seconds)> on_queue_time;                 // submitted -> first scheduled
  std::function<void(double seconds)> on_first_token;                // submitted -> first token
  std::function<void(double seconds)> on_token_latency;              // between tokens of one output
  std::function<void(int32_t query, int32_t hit)> on_prefix_query;   // prompt tokens asked, found
  std::function<void(int32_t prompt, int32_t generated)> on_tokens;  // newly counted tokens
  std::function<void(const PlacementReport&)> on_placement;
  std::function<void(double seconds)> on_replan;  // from any thread: a plan was computed
  // From any thread: what balancing does and why, in a sentence.
  std::function<void(bool warning, const std::string& text)> on_notice;
};

struct EngineStats {
  int32_t live = 0;     // requests not yet over
  int32_t running = 0;  // outputs with KV
  int32_t waiting = 0;
  int64_t waiting_tokens = 0;
  double kv_usage_ratio = 0;  // blocks referenced over all
  bool draining = false;
  // True while the loop is idle or its current step still moves (a heartbeat from the layers);
  // false when a step has shown no life for 10 s.
  bool progressing = true;
  // Why no step can run any more: a rank is lost. Empty: steps can run.
  std::string failure;
};

class Engine {
 public:
  // Loads the model, runs a warm-up step and starts the loop. `progress(done, total)` in bytes.
  // With a group, this is rank 0 of it (options.ranks is its size): the others are processes that
  // run RunFollower (follower.h) and are waited for.
  // Errors: what Checkpoint and LoadWeights say; RESOURCE_EXHAUSTED with the numbers when the plan
  // does not fit in memory.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, EngineEvents events,
      std::function<void(size_t done, size_t total)> progress, const ProcessGroup* group = nullptr);
  virtual ~Engine() = default;

  virtual const ModelInfo& info() const = 0;
  // Null when the checkpoint has no tokenizer.
  virtual const Tokenizer* tokenizer() const = 0;

  // Takes a validated request (ValidateRequest with info().limits). OK: callbacks will come, the
  // last one with usage or with an error. RESOURCE_EXHAUSTED: the queue is full; ALREADY_EXISTS: a
  // live request has this id; UNAVAILABLE: draining. Any thread; never blocks on the step.
  virtual absl::Status Submit(Request request, OutputCallback callback) = 0;
  // Ends a request at the next step: outputs finish with kAborted. False: unknown or over.
  virtual bool Abort(const std::string& request_id) = 0;
  // As Abort, but no further callback comes: the client is gone. After this returns a callback may
  // still be running on the loop thread.
  virtual bool Cancel(const std::string& request_id) = 0;
  // Refuses new requests from now on; those running go on.
  virtual void StartDrain() = 0;
  // Fails every live request with UNAVAILABLE.
  virtual void FailAll(const std::string& why) = 0;
  virtual EngineStats Stats() const = 0;

  // --- experts; any thread ----------------------------------------------------------------------
  virtual ExpertLoad GetExpertLoad() const = 0;
  virtual PlacementState GetPlacement() const = 0;
  // `done` is called once, from any thread, when every layer is in force on every rank; of a dry
  // run when it is checked. Cancels a running replan and pins the layers until SetPaused(false).
  virtual void ApplyPlacement(PlacementRequest request, PlacementCallback done) = 0;
  // Paused: no replans; assign and spill go on. Returns the state that holds from now on.
  virtual BalancingState SetPaused(bool paused) = 0;
  virtual BalancingState Balancing() const = 0;
};

}  // namespace ballast
