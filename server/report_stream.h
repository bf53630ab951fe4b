// Streams that report how things stand: each report is made when the client can take it, so one
// that is late misses some and nothing queues up. Of which: WatchExpertLoad, Drain.
//
// Threads as in generate_call.h: gRPC's tell of cancellation and finished writes, the pump acts.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"
#include "server/service_parts.h"

namespace ballast {

template <typename Report>
class ReportStream : public PumpedCall,
                     public grpc::ServerWriteReactor<Report>,
                     public std::enable_shared_from_this<ReportStream<Report>> {
 public:
  using Clock = std::chrono::steady_clock;

  // Once, on the handler's thread. The reactor may be returned to gRPC afterwards.
  void Start() { parts_->pump->Wake(this->shared_from_this()); }

  bool Pump(Clock::time_point now) final {
    bool cancelled = false;
    bool slow = false;
    {
      const std::lock_guard lock(mutex_);
      if (done_) return false;
      if (finished_) {
        // As GenerateCall: the status waits behind data that the client does not take.
        if (now - finished_at_ > parts_->linger_limit) context_->TryCancel();
        return true;
      }
      cancelled = cancelled_;
      slow = writing_ && now - writing_since_ > parts_->slow_reader_limit;
      if (writing_ && !cancelled && !slow) return true;
    }
    if (cancelled) {
      End(absl::CancelledError("the client cancelled the call"), now);
    } else if (slow) {
      End(WithReason(absl::ResourceExhaustedError(absl::StrCat(
                         "the client reads too slowly: a report has not been taken for ",
                         parts_->slow_reader_limit.count(), " ms")),
                     "SLOW_READER"),
          now);
    } else {
      Act(now);
    }
    return true;
  }

  void OnWriteDone(bool) final { Change(&ReportStream::writing_, false); }
  void OnCancel() final { Change(&ReportStream::cancelled_, true); }
  void OnDone() final { Change(&ReportStream::done_, true); }

 protected:
  ReportStream(ServiceParts* parts, grpc::CallbackServerContext* context)
      : parts_(parts), context_(context) {}

  enum class Next {
    kNothing,   // until the pump looks again: at its next tick, or when woken
    kSend,      // the report
    kSendLast,  // the report; all went well
    kFail,      // `failure`
  };
  // What to do now. On the pump's thread, never while a report is being written; what it fills
  // stays untouched until the report is.
  virtual Next Look(Clock::time_point now, Report* report, absl::Status* failure) = 0;

  ServiceParts* const parts_;

 private:
  void Change(bool ReportStream::*flag, bool value) {
    const std::lock_guard lock(mutex_);
    this->*flag = value;
    parts_->pump->Wake(this->shared_from_this());
  }

  void Act(Clock::time_point now) {
    absl::Status failure;
    switch (Look(now, &report_, &failure)) {
      case Next::kNothing:
        return;
      case Next::kSend: {
        {
          const std::lock_guard lock(mutex_);
          writing_ = true;
          writing_since_ = now;
        }
        return this->StartWrite(&report_);
      }
      case Next::kSendLast:
        finished_ = true;
        finished_at_ = now;
        return this->StartWriteAndFinish(&report_, grpc::WriteOptions(), grpc::Status::OK);
      case Next::kFail:
        return End(failure, now);
    }
  }

  void End(const absl::Status& outcome, Clock::time_point now) {
    finished_ = true;
    finished_at_ = now;
    this->Finish(ToGrpc(outcome));
  }

  grpc::CallbackServerContext* const context_;

  std::mutex mutex_;
  // Guarded by mutex_.
  bool writing_ = false;
  bool cancelled_ = false;
  bool done_ = false;
  Clock::time_point writing_since_;

  // The pump's own; the report also gRPC's while it is written.
  bool finished_ = false;
  Clock::time_point finished_at_;
  Report report_;
};

}  // namespace ballast
