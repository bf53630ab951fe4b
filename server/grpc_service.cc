#include "server/grpc_service.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/convert.h"
#include "server/generate_call.h"
#include "server/rpc_status.h"

namespace ballast {
namespace {

// Tokenize and Detokenize: one piece of work, perhaps on another thread. gRPC keeps the messages
// until Finish, which is the work's last act.
class TextCall : public grpc::ServerUnaryReactor {
 public:
  explicit TextCall(std::function<absl::Status()> work) : work_(std::move(work)) {}

  void Start(TextWorker* worker, size_t bytes) {
    const absl::Status queued = worker->Run(bytes, [this] {
      Finish(ToGrpc(cancelled_.load() ? absl::CancelledError("the client cancelled the call")
                                      : work_()));
    });
    if (!queued.ok()) Finish(ToGrpc(queued));
  }

  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override { delete this; }

 private:
  const std::function<absl::Status()> work_;
  std::atomic<bool> cancelled_ = false;
};

grpc::ServerUnaryReactor* FinishAtOnce(grpc::CallbackServerContext* context,
                                       const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

absl::StatusOr<const Tokenizer*> TokenizerOf(const Engine& engine) {
  if (engine.tokenizer() == nullptr) {
    return WithReason(absl::FailedPreconditionError("the checkpoint has no tokenizer"),
                      "NO_TOKENIZER");
  }
  return engine.tokenizer();
}

absl::Status Tokenize(const Tokenizer& tokenizer, const v1::TokenizeRequest& request,
                      v1::TokenizeResponse* response) {
  const bool special = !request.has_add_special_tokens() || request.add_special_tokens();
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(request.text(), special));
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status Detokenize(const Tokenizer& tokenizer, int vocab_size,
                        const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   ToTokenIds(request.token_ids(), vocab_size, "token_ids"));
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  response->set_text(tokenizer.Decode(ids, skip));
  return absl::OkStatus();
}

// Handles that outlive their handler are owned by the pump; see GenerateCall::Start.
template <typename Call, typename... Args>
Call* StartCall(Args... args) {
  const auto call = std::make_shared<Call>(args...);
  call->Start();
  return call.get();
}

}  // namespace

grpc::ServerUnaryReactor* TextGenerationService::Generate(grpc::CallbackServerContext* context,
                                                          const v1::GenerateRequest* request,
                                                          v1::GenerateResponse* response) {
  return StartCall<UnaryCall>(parts_, context, request, response);
}

grpc::ServerWriteReactor<v1::GenerateChunk>* TextGenerationService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return StartCall<StreamCall>(parts_, context, request);
}

grpc::ServerUnaryReactor* TextGenerationService::Tokenize(grpc::CallbackServerContext* context,
                                                          const v1::TokenizeRequest* request,
                                                          v1::TokenizeResponse* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  const absl::StatusOr<const Tokenizer*> tokenizer = TokenizerOf(**engine);
  if (!tokenizer.ok()) return FinishAtOnce(context, tokenizer.status());
  auto* call = new TextCall([tokenizer = *tokenizer, request, response] {
    return ballast::Tokenize(*tokenizer, *request, response);
  });
  call->Start(parts_->text, request->text().size());
  return call;
}

grpc::ServerUnaryReactor* TextGenerationService::Detokenize(grpc::CallbackServerContext* context,
                                                            const v1::DetokenizeRequest* request,
                                                            v1::DetokenizeResponse* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  const absl::StatusOr<const Tokenizer*> tokenizer = TokenizerOf(**engine);
  if (!tokenizer.ok()) return FinishAtOnce(context, tokenizer.status());
  if (request->token_ids_size() > kMaxDetokenizedIds) {
    return FinishAtOnce(context,
                        FieldError("token_ids", absl::StrCat(request->token_ids_size(), " ids"),
                                   absl::StrCat("at most ", kMaxDetokenizedIds)));
  }
  // A model's vocabulary is often padded beyond the tokenizer's, and sometimes the other way round.
  const int vocab_size = std::max((*engine)->info().config.vocab_size, (*tokenizer)->vocab_size());
  auto* call = new TextCall([tokenizer = *tokenizer, vocab_size, request, response] {
    return ballast::Detokenize(*tokenizer, vocab_size, *request, response);
  });
  constexpr size_t kBytesPerToken = 4;
  call->Start(parts_->text, static_cast<size_t>(request->token_ids_size()) * kBytesPerToken);
  return call;
}

grpc::ServerUnaryReactor* TextGenerationService::Abort(grpc::CallbackServerContext* context,
                                                       const v1::AbortRequest* request,
                                                       v1::AbortResponse* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  response->set_aborted((*engine)->Abort(request->request_id()));
  return FinishAtOnce(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* TextGenerationService::GetModelInfo(grpc::CallbackServerContext* context,
                                                              const v1::GetModelInfoRequest*,
                                                              v1::GetModelInfoResponse* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  *response = ToModelInfo((*engine)->info(), (*engine)->tokenizer() != nullptr, parts_->version);
  return FinishAtOnce(context, absl::OkStatus());
}

}  // namespace ballast
