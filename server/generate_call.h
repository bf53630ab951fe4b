// The calls Generate and GenerateStream, from the message to the last byte.
//
// Threads: gRPC's start a call and tell of cancellation and finished writes; a TextWorker encodes a
// long prompt; the engine's loop delivers; the pump (call_pump.h) acts. The state that they share
// is under one lock, which nobody holds while calling the engine. The pump holds the call until
// gRPC is done with it, the engine's callback for as long as the engine keeps that.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include <grpcpp/support/server_callback.h>

#include "ballast/v1/text_generation.pb.h"
#include "engine/engine.h"
#include "server/chunk_queue.h"
#include "server/service_parts.h"

namespace ballast {

class GenerateCall : public PumpedCall, public std::enable_shared_from_this<GenerateCall> {
 public:
  using Clock = std::chrono::steady_clock;

  // Once, on the handler's thread. The reactor may be returned to gRPC afterwards.
  void Start();
  bool Pump(Clock::time_point now) final;

 protected:
  GenerateCall(ServiceParts* parts, grpc::CallbackServerContext* context,
               const v1::GenerateRequest* message)
      : parts_(parts), context_(context), message_(message) {}

  // What gRPC says.
  void ClientGone();
  void GrpcDone();

  // Takes news that the client has not seen, under the lock. True: the pump has something to do.
  virtual bool Take(v1::GenerateChunk chunk) = 0;
  virtual void Expect(int outputs) = 0;  // before the first Take
  // Does what is due, on the pump's thread. Calls FinishAs at the end and nothing after.
  virtual void Act(Clock::time_point now) = 0;
  virtual void FinishReactor(const grpc::Status& status) = 0;

  // Marks the call as finished towards gRPC; the pump's thread.
  void Finished(Clock::time_point now);
  void FinishAs(const absl::Status& outcome, Clock::time_point now);
  absl::Status Gone() const;  // CANCELLED or DEADLINE_EXCEEDED
  // Ends a request that nobody reads; the lock must not be held.
  void CancelInEngine();
  void Reject(const absl::Status& status);
  void Wake() { parts_->pump->Wake(shared_from_this()); }

  ServiceParts* const parts_;
  const std::string& id() const { return id_; }

  std::mutex mutex_;
  // Guarded by mutex_.
  bool preparing_ = true;   // `message_` is in use, so gRPC must keep it: no Finish
  bool cancelled_ = false;  // the client is gone
  bool ended_ = false;      // no more news: `outcome_` is final
  absl::Status outcome_;

 private:
  void EncodeThenSubmit(Request request);
  void Submit(Request request);
  void End(absl::Status outcome);  // before the engine has taken the request
  void Deliver(const absl::Status& status, OutputDelta delta);
  // Marks the end of preparations; false when the client is gone.
  bool Prepared();

  grpc::CallbackServerContext* const context_;
  const v1::GenerateRequest* const message_;
  Engine* engine_ = nullptr;  // set once, before anything else runs
  std::string id_;            // set once, before the engine knows the request

  // Guarded by mutex_.
  bool submitted_ = false;    // the engine took the request
  bool engine_over_ = false;  // and is done with it
  bool done_ = false;         // gRPC is done with the call

  // The pump's own.
  bool finished_ = false;
  bool dropped_ = false;
  Clock::time_point finished_at_;
};

class UnaryCall : public GenerateCall, public grpc::ServerUnaryReactor {
 public:
  // Of one answer, and of all that are being gathered: 64 outputs with the log-probabilities of a
  // whole vocabulary are gigabytes. In memory they take some five times as much.
  static constexpr size_t kAnswerBytes = size_t{128} << 20;
  static constexpr size_t kAnswersBytes = size_t{512} << 20;

  UnaryCall(ServiceParts* parts, grpc::CallbackServerContext* context,
            const v1::GenerateRequest* message, v1::GenerateResponse* response)
      : GenerateCall(parts, context, message), response_(response) {}

  void OnCancel() override { ClientGone(); }
  void OnDone() override { GrpcDone(); }

 private:
  bool Take(v1::GenerateChunk chunk) override;
  void Expect(int outputs) override;
  void Act(Clock::time_point now) override;
  void FinishReactor(const grpc::Status& status) override { Finish(status); }
  void GiveBytesBack();  // mutex_ held, nothing more to be taken

  v1::GenerateResponse* const response_;

  // Guarded by mutex_.
  v1::GenerateResponse answer_;
  size_t bytes_ = 0;  // of the wire, in answer_
  bool too_large_ = false;
};

class StreamCall : public GenerateCall, public grpc::ServerWriteReactor<v1::GenerateChunk> {
 public:
  // News that may wait behind a write; a reader so far behind is too slow. One piece of news may be
  // larger, and waits alone.
  static constexpr size_t kBacklogBytes = 16 << 20;

  StreamCall(ServiceParts* parts, grpc::CallbackServerContext* context,
             const v1::GenerateRequest* message)
      : GenerateCall(parts, context, message) {}

  void OnWriteDone(bool ok) override;
  void OnCancel() override { ClientGone(); }
  void OnDone() override { GrpcDone(); }

 private:
  bool Take(v1::GenerateChunk chunk) override;
  void Expect(int) override {}
  void Act(Clock::time_point now) override;
  void FinishReactor(const grpc::Status& status) override { Finish(status); }
  bool TooSlow(Clock::time_point now) const;

  // Guarded by mutex_.
  ChunkQueue queue_;
  bool writing_ = false;
  Clock::time_point writing_since_;

  v1::GenerateChunk chunk_;  // being written; the pump's and gRPC's
};

}  // namespace ballast
