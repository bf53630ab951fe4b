// ballast.v1.TextGeneration on gRPC's callback API.
#pragma once

#include "ballast/v1/text_generation.grpc.pb.h"
#include "server/service_parts.h"

namespace ballast {

class TextGenerationService : public v1::TextGeneration::CallbackService {
 public:
  // A text this long is longer than any context; beyond, Detokenize could be asked for gigabytes.
  static constexpr int kMaxDetokenizedIds = 1 << 20;

  // `parts` must outlive every call.
  explicit TextGenerationService(ServiceParts* parts) : parts_(parts) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateChunk>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override;

 private:
  ServiceParts* const parts_;
};

}  // namespace ballast
