#include "server/expert_streams.h"

#include "absl/strings/str_cat.h"
#include "server/expert_convert.h"

namespace ballast {
namespace {

// A report without news, so that a client can tell waiting from a dead connection.
constexpr std::chrono::seconds kDrainReport(1);

absl::Status Stopping() {
  return WithReason(absl::UnavailableError("the server is stopping"), "STOPPING");
}

}  // namespace

LoadStream::Next LoadStream::Look(Clock::time_point now, v1::ExpertLoad* report,
                                  absl::Status* failure) {
  *failure = !engine_.ok() ? engine_.status() : parts_->stopping ? Stopping() : absl::OkStatus();
  if (!failure->ok()) return Next::kFail;
  if (last_.has_value() && now < last_time_ + interval_) return Next::kNothing;
  ExpertLoad load = (*engine_)->GetExpertLoad();
  const bool first = !last_.has_value();
  if (!first) {
    const std::chrono::duration<double> seconds = now - last_time_;
    *report = ToMessage({seconds.count(), LoadBetween(*last_, load)}, (*engine_)->Balancing());
  }
  last_ = std::move(load);
  last_time_ = now;
  parts_->pump->WakeAt(now + interval_, shared_from_this());
  return first ? Next::kNothing : Next::kSend;
}

DrainStream::Next DrainStream::Look(Clock::time_point now, v1::DrainResponse* report,
                                    absl::Status* failure) {
  *failure = !engine_.ok() ? engine_.status() : parts_->stopping ? Stopping() : absl::OkStatus();
  if (!failure->ok()) return Next::kFail;
  Engine& engine = **engine_;
  if (!started_) {
    started_ = true;
    started_at_ = now;
    engine.StartDrain();
    parts_->pump->Tick();  // health looks again
    if (parts_->events.on_admin) {
      parts_->events.on_admin("draining", absl::StrCat(engine.Stats().live, " requests, within ",
                                                       limit_seconds_, " s"));
    }
  }
  const EngineStats stats = engine.Stats();
  if (stats.live > 0 && !failed_ &&
      std::chrono::duration<double>(now - started_at_).count() >= limit_seconds_) {
    failed_ = true;
    report->set_failed(static_cast<uint32_t>(stats.live));
    engine.FailAll(absl::StrCat("the server is draining, and the deadline of ", limit_seconds_,
                                " s has passed"));
  }
  const auto running = static_cast<uint32_t>(stats.running);
  const auto waiting = static_cast<uint32_t>(stats.waiting);
  const bool over = stats.live == 0 && running == 0 && waiting == 0;
  const bool news = running != report->running() || waiting != report->waiting();
  if (!over && !news && reported_at_ != Clock::time_point() && now < reported_at_ + kDrainReport) {
    return Next::kNothing;
  }
  reported_at_ = now;
  report->set_running(running);
  report->set_waiting(waiting);
  return over ? Next::kSendLast : Next::kSend;
}

}  // namespace ballast
