#include "server/generate_call.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/convert.h"
#include "server/rpc_status.h"

namespace ballast {
namespace {

Drawn Draw() {
  std::random_device device;
  const auto word = [&device] { return uint64_t{device()} << 32 | device(); };
  return {absl::StrCat("gen-", absl::Hex(word(), absl::kZeroPad16)), word()};
}

absl::Status WithSubmitReason(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kAlreadyExists:
      return WithReason(status, "DUPLICATE_REQUEST_ID");
    case absl::StatusCode::kUnavailable:
      return WithReason(status, "DRAINING");
    default:
      return status;
  }
}

}  // namespace

void GenerateCall::Start() {
  Wake();  // from here on the pump keeps the call alive
  absl::StatusOr<Engine*> engine = parts_->Admit(*context_);
  if (!engine.ok()) return End(engine.status());
  engine_ = *engine;
  absl::StatusOr<Request> request = ToRequest(*message_, engine_->info(), Draw());
  if (!request.ok()) {
    return End(absl::IsNotFound(request.status()) ? WithReason(request.status(), "MODEL_NOT_FOUND")
                                                  : request.status());
  }
  if (!message_->has_text()) return Submit(*std::move(request));
  if (engine_->tokenizer() == nullptr) {
    return End(WithReason(
        absl::FailedPreconditionError("text: found text, expected token_ids: the checkpoint has no "
                                      "tokenizer"),
        "NO_TOKENIZER"));
  }
  const absl::Status queued = parts_->text->Run(
      message_->text().size(),
      [self = shared_from_this(), shared = std::make_shared<Request>(*std::move(request))] {
        self->EncodeThenSubmit(std::move(*shared));
      });
  if (!queued.ok()) End(queued);
}

void GenerateCall::EncodeThenSubmit(Request request) {
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_) {
      preparing_ = false;
      Wake();
      return;
    }
  }
  auto ids = engine_->tokenizer()->Encode(message_->text(), /*add_special_tokens=*/true);
  if (!ids.ok()) return End(WithReason(ids.status(), "TEXT_NOT_ENCODED"));
  request.prompt = *std::move(ids);
  Submit(std::move(request));
}

bool GenerateCall::Prepared() {
  const std::lock_guard lock(mutex_);
  preparing_ = false;
  if (cancelled_) Wake();
  return !cancelled_;
}

void GenerateCall::Submit(Request request) {
  absl::Status valid = ValidateRequest(request, engine_->info().limits);
  if (message_->has_text()) valid = NameTextField(valid);
  if (!valid.ok()) {
    return End(absl::IsFailedPrecondition(valid) ? WithReason(valid, "NO_TOKENIZER") : valid);
  }
  const bool seed_drawn = NeedsSeed(*message_, request);
  if (!Prepared()) return;  // message_ is gRPC's again
  id_ = request.id;
  Expect(request.sampling.n);
  if (seed_drawn && parts_->events.on_seed_drawn) {
    parts_->events.on_seed_drawn(id_, request.sampling.seed);
  }
  const absl::Status status = engine_->Submit(
      std::move(request), [self = shared_from_this()](absl::Status news, OutputDelta delta) {
        self->Deliver(news, std::move(delta));
      });
  if (!status.ok()) return End(WithSubmitReason(status));
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    submitted_ = true;
    cancel = cancelled_;  // the client left before the engine could be told
  }
  if (cancel) CancelInEngine();
}

void GenerateCall::End(absl::Status outcome) {
  Reject(outcome);
  const std::lock_guard lock(mutex_);
  preparing_ = false;
  ended_ = true;
  engine_over_ = true;
  outcome_ = std::move(outcome);
  Wake();
}

void GenerateCall::Reject(const absl::Status& status) {
  if (parts_->events.on_rejected) parts_->events.on_rejected(RejectReason(status));
}

void GenerateCall::Deliver(const absl::Status& status, OutputDelta delta) {
  const bool last = !status.ok() || delta.usage.has_value();
  const std::lock_guard lock(mutex_);
  if (last) engine_over_ = true;
  if (ended_ || cancelled_ || done_) return;
  bool wake = last;
  if (status.ok()) wake |= Take(ToChunk(id_, std::move(delta)));
  if (last) {
    ended_ = true;
    outcome_ = status;
  }
  if (wake) Wake();
}

void GenerateCall::CancelInEngine() {
  {
    const std::lock_guard lock(mutex_);
    // An id that is over may be another request's by now.
    if (!submitted_ || engine_over_) return;
    engine_over_ = true;
  }
  engine_->Cancel(id_);
}

void GenerateCall::ClientGone() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  CancelInEngine();
  Wake();
}

void GenerateCall::GrpcDone() {
  const std::lock_guard lock(mutex_);
  done_ = true;
  Wake();
}

bool GenerateCall::Pump(Clock::time_point now) {
  {
    const std::lock_guard lock(mutex_);
    if (done_) return false;
    if (preparing_) return true;
    if (finished_) {
      // The status waits behind data that the client does not take. Under the lock, for gRPC may
      // free the context as soon as GrpcDone has returned.
      if (!dropped_ && now - finished_at_ > parts_->linger_limit) {
        dropped_ = true;
        context_->TryCancel();
      }
      return true;
    }
  }
  Act(now);
  return true;
}

void GenerateCall::Finished(Clock::time_point now) {
  finished_ = true;
  finished_at_ = now;
}

void GenerateCall::FinishAs(const absl::Status& outcome, Clock::time_point now) {
  Finished(now);
  FinishReactor(ToGrpc(outcome));
}

absl::Status GenerateCall::Gone() const {
  if (context_->deadline() <= std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError("the deadline passed before the answer was complete");
  }
  return absl::CancelledError("the client cancelled the call");
}

void UnaryCall::Expect(int outputs) {
  const std::lock_guard lock(mutex_);
  answer_.set_request_id(id());
  for (int i = 0; i < outputs; ++i) answer_.add_outputs()->set_index(static_cast<uint32_t>(i));
}

bool UnaryCall::Take(v1::GenerateChunk chunk) {
  const size_t bytes = chunk.ByteSizeLong();
  bytes_ += bytes;
  const size_t all = parts_->answer_bytes += bytes;
  too_large_ |= bytes_ > kAnswerBytes || all > kAnswersBytes;
  if (!too_large_) Append(std::move(chunk), &answer_);
  return too_large_;
}

void UnaryCall::GiveBytesBack() { parts_->answer_bytes -= std::exchange(bytes_, 0); }

void UnaryCall::Act(Clock::time_point now) {
  std::unique_lock lock(mutex_);
  if (!cancelled_ && too_large_) {
    const absl::Status too_large = WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "the answer is too large: it holds ", bytes_, " bytes, all that are being gathered ",
            parts_->answer_bytes.load(), ", expected at most ", kAnswerBytes, " and ",
            kAnswersBytes, "; GenerateStream hands out what Generate gathers")),
        "ANSWER_TOO_LARGE");
    ended_ = true;
    answer_.Clear();
    GiveBytesBack();
    lock.unlock();
    CancelInEngine();
    Reject(too_large);
    return FinishAs(too_large, now);
  }
  if (!cancelled_ && !ended_) return;
  const absl::Status outcome = cancelled_ ? Gone() : outcome_;
  if (outcome.ok()) *response_ = std::move(answer_);
  GiveBytesBack();
  lock.unlock();
  FinishAs(outcome, now);
}

bool StreamCall::Take(v1::GenerateChunk chunk) {
  queue_.Push(std::move(chunk));
  return !writing_ || queue_.bytes() > kBacklogBytes;
}

void StreamCall::OnWriteDone(bool ok) {
  const std::lock_guard lock(mutex_);
  writing_ = false;
  // A write fails when the stream is broken; OnCancel comes too.
  if (!ok) queue_.Clear();
  if (ended_ || cancelled_ || !queue_.empty()) Wake();
}

bool StreamCall::TooSlow(Clock::time_point now) const {
  return writing_ &&
         (now - writing_since_ > parts_->slow_reader_limit || queue_.bytes() > kBacklogBytes);
}

void StreamCall::Act(Clock::time_point now) {
  std::unique_lock lock(mutex_);
  if (cancelled_) {
    const absl::Status gone = Gone();
    lock.unlock();
    return FinishAs(gone, now);
  }
  if (TooSlow(now)) {
    const absl::Status slow = WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "the client reads too slowly: a chunk has not been taken for ",
            std::chrono::duration_cast<std::chrono::milliseconds>(now - writing_since_).count(),
            " ms and ", queue_.bytes(), " bytes wait behind it, the limits are ",
            parts_->slow_reader_limit.count(), " ms and ", kBacklogBytes, " bytes")),
        "SLOW_READER");
    ended_ = true;
    queue_.Clear();
    lock.unlock();
    CancelInEngine();
    Reject(slow);
    return FinishAs(slow, now);
  }
  if (writing_) return;
  if (!queue_.empty()) {
    chunk_ = queue_.Pop();
    writing_ = true;
    writing_since_ = now;
    const bool last = ended_ && outcome_.ok() && queue_.empty();
    lock.unlock();
    if (!last) return StartWrite(&chunk_);
    Finished(now);
    return StartWriteAndFinish(&chunk_, grpc::WriteOptions(), grpc::Status::OK);
  }
  if (!ended_) return;
  const absl::Status outcome = outcome_;
  lock.unlock();
  FinishAs(outcome, now);
}

}  // namespace ballast
