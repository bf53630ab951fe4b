#include "engine/engine_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/share.h"

namespace ballast {
namespace {

// A step that shows no life for this long counts as hung.
constexpr double kStallSeconds = 10.0;

// Before sequences advance: the first output token makes a decode of what was prefill.
void CountRows(const std::vector<Schedule>& schedules, StepReport& report) {
  for (const Schedule& schedule : schedules) {
    report.preemptions += static_cast<int32_t>(schedule.preempt.size());
    for (const ScheduledRows& rows : schedule.rows) {
      const bool decode = rows.sequence->output_tokens() > 0 && rows.rows == 1;
      (decode ? report.decode_rows : report.prefill_rows) += rows.rows;
    }
  }
}

template <typename Hook, typename... Args>
void Call(const Hook& hook, Args&&... args) {
  if (hook) hook(std::forward<Args>(args)...);
}

}  // namespace

EngineLoop::EngineLoop(EngineParts parts, EngineEvents events)
    : parts_(std::move(parts)),
      events_(std::move(events)),
      limits_{parts_.info.max_context, parts_.info.config.eos_token_ids},
      queues_(parts_.world->size()),
      pools_(parts_.world->size(), BlockPool(parts_.kv_blocks)),
      last_beat_time_(Clock::now()) {
  plan_.ranks.resize(parts_.world->size());
  balancer_ = std::make_unique<Balancer>(*parts_.world, parts_.balanced, parts_.balancer, events_,
                                         [this] { Wake(); });
  thread_ = std::thread([this] { Run(); });
}

EngineLoop::~EngineLoop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    stats_.draining = true;
  }
  wake_.notify_one();
  thread_.join();
}

void EngineLoop::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

absl::Status EngineLoop::Submit(Request request, OutputCallback callback) {
  auto live = std::make_unique<LiveRequest>();
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  // Log-probabilities and expert choices of cached tokens are not kept.
  if (request.response.prompt_logprobs >= 0 || request.response.return_routed_experts) {
    request.bypass_prefix_cache = true;
  }
  live->request = std::make_shared<const Request>(std::move(request));
  live->callback = std::move(callback);
  live->submitted = Clock::now();
  RETURN_IF_ERROR(parts_.world->failure());
  {
    std::lock_guard lock(mutex_);
    if (stats_.draining) return absl::UnavailableError("the server is draining");
    const std::string& id = live->request->id;
    if (known_.contains(id)) {
      return absl::AlreadyExistsError(absl::StrCat("request_id: \"", id, "\" is running already"));
    }
    if (waiting_requests_ >= parts_.max_waiting) {
      return absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", waiting_requests_,
                                                       " requests wait, --max-waiting is ",
                                                       parts_.max_waiting));
    }
    if (waiting_requests_ > 0 && waiting_tokens_ + tokens > parts_.max_waiting_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the queue is full: ", waiting_tokens_, " prompt tokens wait and ", tokens,
                       " more would come, --max-waiting-tokens is ", parts_.max_waiting_tokens));
    }
    known_.insert(id);
    ++waiting_requests_;
    waiting_tokens_ += tokens;
    inbox_.requests.push_back(std::move(live));
  }
  wake_.notify_one();
  return absl::OkStatus();
}

bool EngineLoop::Post(const std::string& request_id, End end) {
  {
    std::lock_guard lock(mutex_);
    if (!known_.contains(request_id)) return false;
    inbox_.ends.emplace_back(request_id, end);
  }
  wake_.notify_one();
  return true;
}

bool EngineLoop::Abort(const std::string& request_id) { return Post(request_id, End::kAbort); }
bool EngineLoop::Cancel(const std::string& request_id) { return Post(request_id, End::kCancel); }

void EngineLoop::StartDrain() {
  std::lock_guard lock(mutex_);
  stats_.draining = true;
}

void EngineLoop::FailAll(const std::string& why) {
  {
    std::lock_guard lock(mutex_);
    inbox_.fail_all = why;
  }
  wake_.notify_one();
}

EngineStats EngineLoop::Stats() const {
  const absl::Status failure = parts_.world->failure();
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.failure = std::string(failure.message());
  stats.draining |= !failure.ok();
  stats.live = static_cast<int32_t>(known_.size());
  stats.waiting += static_cast<int32_t>(inbox_.requests.size());
  stats.waiting_tokens = waiting_tokens_;
  const Clock::time_point now = Clock::now();
  const uint64_t beat = parts_.world->heartbeat() + steps_.load(std::memory_order_relaxed);
  if (!busy_ || beat != last_beat_) {
    last_beat_ = beat;
    last_beat_time_ = now;
  }
  stats.progressing = SecondsBetween(last_beat_time_, now) < kStallSeconds;
  return stats;
}

void EngineLoop::PublishStats(bool busy) {
  std::lock_guard lock(mutex_);
  if (busy && !busy_) last_beat_time_ = Clock::now();
  busy_ = busy;
  stats_.running = 0;
  stats_.waiting = 0;
  int64_t used = 0;
  int64_t blocks = 0;
  for (size_t rank = 0; rank < pools_.size(); ++rank) {
    stats_.running += static_cast<int32_t>(queues_[rank].running.size());
    stats_.waiting += static_cast<int32_t>(queues_[rank].waiting.size());
    used += pools_[rank].used();
    blocks += pools_[rank].size();
  }
  stats_.kv_usage_ratio =
      blocks == 0 ? 0.0 : static_cast<double>(used) / static_cast<double>(blocks);
}

bool EngineLoop::Idle() const {
  return std::all_of(queues_.begin(), queues_.end(), [](const Queues& queues) {
    return queues.running.empty() && queues.waiting.empty();
  });
}

void EngineLoop::Run() {
  while (true) {
    const bool idle = Idle();
    PublishStats(!idle);
    Inbox inbox;
    bool stop = false;
    {
      std::unique_lock lock(mutex_);
      if (idle) wake_.wait(lock, [this] { return stop_ || woken_ || !inbox_.empty(); });
      std::swap(inbox, inbox_);
      woken_ = false;
      stop = stop_;
    }
    if (stop) inbox.fail_all = "the server has stopped";
    TakeIn(std::move(inbox));
    if (stop) return;
    RunStep();
    steps_.fetch_add(1, std::memory_order_relaxed);
  }
}

void EngineLoop::TakeIn(Inbox inbox) {
  for (std::unique_ptr<LiveRequest>& arrived : inbox.requests) {
    LiveRequest& live = *arrived;
    live.usage.prompt_tokens = static_cast<int32_t>(live.request->prompt.size());
    live_.emplace(live.request->id, std::move(arrived));
    StartOutput(live, 0);
  }
  for (const auto& [id, end] : inbox.ends) {
    const auto it = live_.find(id);
    if (it == live_.end()) continue;
    if (end == End::kAbort) {
      EndOutputs(*it->second, FinishReason::kAborted);
    } else {
      Drop(id, nullptr);
    }
  }
  if (!inbox.fail_all.empty()) {
    const absl::Status failure = absl::UnavailableError(inbox.fail_all);
    while (!live_.empty()) Drop(std::string(live_.begin()->first), &failure);
  }
}

void EngineLoop::StartOutput(LiveRequest& live, int32_t index) {
  auto sequence = std::make_shared<Sequence>();
  sequence->id = next_sequence_++;
  sequence->request = live.request;
  sequence->output_index = index;
  sequence->tokens = live.request->prompt;
  sequence->prompt_tokens = static_cast<int32_t>(live.request->prompt.size());
  sequence->rank = ChooseRank(sequence->tokens, live.request->cache_salt,
                              !live.request->bypass_prefix_cache, queues_, pools_);
  by_sequence_.emplace(sequence->id, std::pair(&live, index));
  live.outputs.emplace_back(Output(sequence, parts_.tokenizer.get()));
  Queues& queues = queues_[sequence->rank];
  Enqueue(std::move(sequence), queues);
}

std::vector<Schedule> EngineLoop::DecideRanks() const {
  std::vector<int64_t> demand;
  for (const Queues& queues : queues_) demand.push_back(PendingTokens(queues));
  const std::vector<int32_t> share = ShareTokens(demand, parts_.budget.step_tokens);
  const auto ranks = static_cast<int32_t>(queues_.size());
  const int32_t max_running = (parts_.budget.max_running + ranks - 1) / ranks;
  std::vector<Schedule> schedules;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    schedules.push_back(DecideStep(queues_[rank], pools_[rank], {share[rank], max_running}));
  }
  return schedules;
}

void EngineLoop::RunStep() {
  const Clock::time_point start = Clock::now();
  const std::vector<Schedule> schedules = DecideRanks();
  bool any_rows = false;
  for (size_t rank = 0; rank < schedules.size(); ++rank) {
    ApplySchedule(schedules[rank], queues_[rank], pools_[rank]);
    ReportAdmissions(schedules[rank]);
    any_rows |= !schedules[rank].rows.empty();
  }
  if (!any_rows && !balancer_->HasChange()) return;
  PublishStats(true);
  ++plan_.step;
  BuildStepPlan(schedules, limits_.eos_token_ids, plan_);
  balancer_->BeforeStep(plan_);
  const absl::Status status = parts_.world->RunStep(plan_, result_);
  StepReport report;
  CountRows(schedules, report);
  balancer_->AfterStep(status, plan_, result_, report.prefill_rows, report.decode_rows);
  if (!status.ok()) {
    // Nothing of the step can be trusted, and ranks that lost each other cannot run another.
    while (!live_.empty()) Drop(std::string(live_.begin()->first), &status);
    StartDrain();
    return;
  }
  if (!any_rows) return;
  AdvanceAll(schedules);
  DropBroken();
  report.seconds = SecondsBetween(start, Clock::now());
  report.result = &result_;
  report.plan = &plan_;
  Call(events_.on_step, report);
}

void EngineLoop::AdvanceAll(const std::vector<Schedule>& schedules) {
  for (size_t rank = 0; rank < schedules.size(); ++rank) {
    size_t row = 0;
    size_t sample = 0;
    for (const ScheduledRows& rows : schedules[rank].rows) {
      Advance(rows, result_.ranks[rank], row, sample);
    }
  }
}

void EngineLoop::CountOutOfWaiting(LiveRequest& live) {
  if (live.scheduled) return;
  live.scheduled = true;
  std::lock_guard lock(mutex_);
  --waiting_requests_;
  waiting_tokens_ -= live.usage.prompt_tokens;
}

void EngineLoop::ReportAdmissions(const Schedule& schedule) {
  const Clock::time_point now = Clock::now();
  for (const Admission& admission : schedule.admit) {
    const Sequence& sequence = *admission.sequence;
    LiveRequest& live = *by_sequence_.at(sequence.id).first;
    if (!live.request->bypass_prefix_cache) {
      Call(events_.on_prefix_query, static_cast<int32_t>(sequence.tokens.size()),
           static_cast<int32_t>(admission.cached_blocks.size()) * kKvBlockTokens);
    }
    if (live.scheduled) continue;
    live.usage.cached_prompt_tokens = sequence.cached_prompt_tokens;
    CountOutOfWaiting(live);
    Call(events_.on_queue_time, SecondsBetween(live.submitted, now));
    Call(events_.on_tokens, live.usage.prompt_tokens, 0);
  }
}

void EngineLoop::RecordRouting(const ScheduledRows& rows, const RankResult& result, size_t row,
                               LiveOutput& out) {
  Sequence& sequence = *rows.sequence;
  const size_t ids_per_row = result.routed.size() / plan_.ranks[sequence.rank].tokens.size();
  const int bytes_per_id = parts_.info.config.experts > 256 ? 2 : 1;
  for (int32_t i = std::max(0, sequence.routed - sequence.computed); i < rows.rows; ++i) {
    const uint16_t* ids = result.routed.data() + (row + i) * ids_per_row;
    for (size_t j = 0; j < ids_per_row; ++j) {
      out.routed.push_back(static_cast<char>(ids[j] & 0xff));
      if (bytes_per_id == 2) out.routed.push_back(static_cast<char>(ids[j] >> 8));
    }
    ++sequence.routed;
  }
}

void EngineLoop::Advance(const ScheduledRows& rows, const RankResult& result, size_t& row,
                         size_t& sample) {
  Sequence& sequence = *rows.sequence;
  const auto [live, index] = by_sequence_.at(sequence.id);
  LiveOutput& out = live->outputs[index];
  if (live->request->response.return_routed_experts) RecordRouting(rows, result, row, out);
  row += rows.rows;
  MarkComputed(sequence, rows.rows, pools_[sequence.rank]);

  const std::vector<SampleRow>& samples = plan_.ranks[sequence.rank].samples;
  const auto end_row = static_cast<int32_t>(row);
  bool finite = true;
  for (; sample < samples.size() && samples[sample].row < end_row && samples[sample].target >= 0;
       ++sample) {
    if (live->prompt_logprobs.empty()) {
      live->prompt_logprobs.push_back({sequence.tokens[0], std::nullopt, 0, {}});
    }
    live->prompt_logprobs.push_back(*result.samples[sample].logprobs);
    ++sequence.scored;
    finite &= result.samples[sample].token != kNotFinite;
  }
  if (rows.draws) finite &= result.samples[sample].token != kNotFinite;
  if (!finite) broken_.push_back(live->request->id);
  if (rows.draws && finite) Draw(*live, out, result.samples[sample]);
  sample += rows.draws ? 1 : 0;
}

// Better no answer than one that is made up.
void EngineLoop::DropBroken() {
  const absl::Status failure = absl::InternalError(
      "the model's logits hold NaN or infinity, expected finite numbers: its weights are broken, "
      "or too large for --compute");
  for (const std::string& id : broken_) {
    if (live_.contains(id)) Drop(id, &failure);
  }
  broken_.clear();
}

void EngineLoop::Draw(LiveRequest& live, LiveOutput& out, const Sampled& sampled) {
  const Clock::time_point now = Clock::now();
  const bool first_of_output = out.output.sequence().output_tokens() == 0;
  const bool first_of_request = live.usage.completion_tokens == 0;
  if (first_of_request) Call(events_.on_first_token, SecondsBetween(live.submitted, now));
  if (!first_of_output) Call(events_.on_token_latency, SecondsBetween(out.last_token, now));
  out.last_token = now;
  ++live.usage.completion_tokens;
  Call(events_.on_tokens, 0, 1);
  OutputDelta delta = out.output.Append(sampled, limits_);
  if (first_of_request) {
    if (live.request->response.prompt_logprobs >= 0 && live.prompt_logprobs.empty()) {
      live.prompt_logprobs.push_back({live.request->prompt[0], std::nullopt, 0, {}});
    }
    delta.prompt_logprobs = std::move(live.prompt_logprobs);
    for (int32_t index = 1; index < live.request->sampling.n; ++index) StartOutput(live, index);
  }
  Emit(live, out, std::move(delta));
}

// Hands a delta to the client; on the output's last one its blocks go back, on the request's last
// one the request is over and `live` is gone.
void EngineLoop::Emit(LiveRequest& live, LiveOutput& out, OutputDelta delta) {
  const FinishReason reason = delta.finish_reason;
  if (reason == FinishReason::kNone) {
    live.callback(absl::OkStatus(), std::move(delta));
    return;
  }
  Sequence& sequence = out.output.sequence();
  Remove(sequence, queues_[sequence.rank], pools_[sequence.rank]);
  by_sequence_.erase(sequence.id);
  if (live.request->response.return_routed_experts) {
    RoutedExperts& routed = delta.routed_experts.emplace();
    routed.tokens = sequence.routed;
    routed.k = parts_.info.config.experts_per_token;
    routed.layers = MoeLayers(parts_.info.config);
    routed.bytes_per_id = parts_.info.config.experts > 256 ? 2 : 1;
    routed.ids = std::move(out.routed);
  }
  const auto finished = [](const LiveOutput& o) { return o.output.finished(); };
  const bool over = static_cast<int32_t>(live.outputs.size()) == live.request->sampling.n &&
                    std::all_of(live.outputs.begin(), live.outputs.end(), finished);
  if (!over) {
    live.callback(absl::OkStatus(), std::move(delta));
    return;
  }
  delta.usage = live.usage;
  PublishStats(true);  // before the client can see its last chunk
  FinishRequest(live, reason);
  std::unique_ptr<LiveRequest> keep = std::move(live_.at(live.request->id));
  live_.erase(live.request->id);
  keep->callback(absl::OkStatus(), std::move(delta));
}

void EngineLoop::FinishRequest(LiveRequest& live, FinishReason reason) {
  CountOutOfWaiting(live);
  RequestReport report;
  report.finish_reason = reason;
  report.usage = live.usage;
  report.seconds = SecondsBetween(live.submitted, Clock::now());
  Call(events_.on_request_over, report);
  std::lock_guard lock(mutex_);
  known_.erase(live.request->id);
}

void EngineLoop::EndOutputs(LiveRequest& live, FinishReason reason) {
  // Outputs that never started end too: a client counts n of them.
  while (static_cast<int32_t>(live.outputs.size()) < live.request->sampling.n) {
    StartOutput(live, static_cast<int32_t>(live.outputs.size()));
  }
  std::vector<LiveOutput*> open;
  for (LiveOutput& out : live.outputs) {
    if (!out.output.finished()) open.push_back(&out);
  }
  for (LiveOutput* out : open) Emit(live, *out, out->output.Finish(reason));
}

// Forgets a request without a word, or with a failure.
void EngineLoop::Drop(const std::string& request_id, const absl::Status* failure) {
  std::unique_ptr<LiveRequest> live = std::move(live_.at(request_id));
  live_.erase(request_id);
  for (LiveOutput& out : live->outputs) {
    if (out.output.finished()) continue;
    Sequence& sequence = out.output.sequence();
    Remove(sequence, queues_[sequence.rank], pools_[sequence.rank]);
    by_sequence_.erase(sequence.id);
  }
  FinishRequest(*live, failure == nullptr ? FinishReason::kAborted : FinishReason::kNone);
  if (failure != nullptr) live->callback(*failure, {});
}

}  // namespace ballast
