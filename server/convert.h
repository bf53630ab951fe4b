// Between the wire's messages and the engine's plain structs. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ballast/v1/text_generation.pb.h"
#include "engine/engine.h"
#include "engine/status.h"

namespace ballast {

// What stands in for what a client left out and only chance can give.
struct Drawn {
  std::string request_id;
  uint64_t seed = 0;
};

// The engine's request, all but the prompt of a text input: that is the tokenizer's work. Unset
// values come from generation_config.json, then vLLM's defaults. Checks only what the engine's
// types cannot hold or do not know (input, model, request_id); ValidateRequest does the rest.
// INVALID_ARGUMENT names the field; NOT_FOUND: another model.
absl::StatusOr<Request> ToRequest(const v1::GenerateRequest& message, const ModelInfo& info,
                                  const Drawn& drawn);

// True when the answer depends on a seed that the client did not give.
bool NeedsSeed(const v1::GenerateRequest& message, const Request& request);

// ValidateRequest calls the prompt "token_ids"; a client that sent text knows it as "text".
absl::Status NameTextField(const absl::Status& status);

// Moves what is large.
v1::GenerateChunk ToChunk(std::string_view request_id, OutputDelta delta);
// Adds a chunk to the unary answer; `response` has its outputs, one per index.
void Append(v1::GenerateChunk chunk, v1::GenerateResponse* response);

// Token ids of the wire; INVALID_ARGUMENT, naming `field`, for one not below `vocab_size`.
absl::StatusOr<std::vector<int32_t>> ToTokenIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, int64_t vocab_size,
    const std::string& field);

v1::GetModelInfoResponse ToModelInfo(const ModelInfo& info, bool has_tokenizer,
                                     std::string_view version);

}  // namespace ballast
