#include "server/convert.h"

#include <limits>

#include <gtest/gtest.h>

#include "absl/strings/cord.h"

namespace ballast {
namespace {

ModelInfo Tiny() {
  ModelInfo info;
  info.name = "tiny";
  info.config.vocab_size = 100;
  info.max_context = 32;
  return info;
}

v1::GenerateRequest Message() {
  v1::GenerateRequest message;
  message.mutable_token_ids()->add_ids(5);
  return message;
}

Request Converted(const v1::GenerateRequest& message, const ModelInfo& info = Tiny()) {
  auto request = ToRequest(message, info, {"made-up", 77});
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? *request : Request();
}

std::string FieldOf(const absl::Status& status) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  const auto payload = status.GetPayload(kFieldPayload);
  return payload.has_value() ? std::string(*payload) : "";
}

TEST(Convert, WhatIsUnsetTakesTheUsualDefaults) {
  const Request request = Converted(Message());
  EXPECT_EQ(request.id, "made-up");
  EXPECT_EQ(request.prompt, std::vector<int32_t>{5});
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_EQ(request.sampling.top_p, 1.0f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.min_p, 0.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(request.sampling.seed, 77u);
  EXPECT_EQ(request.sampling.n, 1);
  EXPECT_FALSE(request.stopping.max_tokens.has_value());
  EXPECT_EQ(request.response.logprobs, -1);
  EXPECT_EQ(request.response.prompt_logprobs, -1);
}

TEST(Convert, GenerationConfigStandsBeforeTheUsualDefaults) {
  ModelInfo info = Tiny();
  info.defaults = {0.6f, 0.9f, 20, 0.05f, 1.1f, 12};
  const Request request = Converted(Message(), info);
  EXPECT_EQ(request.sampling.temperature, 0.6f);
  EXPECT_EQ(request.sampling.top_p, 0.9f);
  EXPECT_EQ(request.sampling.top_k, 20);
  EXPECT_EQ(request.sampling.min_p, 0.05f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(request.stopping.max_tokens, 12);
}

TEST(Convert, ZeroIsNotUnset) {
  ModelInfo info = Tiny();
  info.defaults = {0.6f, 0.9f, 20, 0.05f, 1.1f, 12};
  v1::GenerateRequest message = Message();
  message.mutable_sampling()->set_temperature(0);
  message.mutable_sampling()->set_top_p(0);
  message.mutable_sampling()->set_top_k(0);
  message.mutable_sampling()->set_min_p(0);
  message.mutable_sampling()->set_repetition_penalty(0);
  message.mutable_sampling()->set_seed(0);
  message.mutable_sampling()->set_n(0);
  message.mutable_stopping()->set_max_tokens(0);
  message.mutable_response()->set_logprobs(0);
  message.mutable_response()->set_prompt_logprobs(0);
  const Request request = Converted(message, info);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.top_p, 0.0f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.min_p, 0.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 0.0f);
  EXPECT_EQ(request.sampling.seed, 0u);
  EXPECT_EQ(request.sampling.n, 0);
  EXPECT_EQ(request.stopping.max_tokens, 0);
  EXPECT_EQ(request.response.logprobs, 0);
  EXPECT_EQ(request.response.prompt_logprobs, 0);
}

TEST(Convert, EveryFieldArrives) {
  v1::GenerateRequest message = Message();
  message.set_request_id("mine");
  message.set_model("tiny");
  message.set_priority(-3);
  message.set_bypass_prefix_cache(true);
  message.set_cache_salt("salt");
  auto* sampling = message.mutable_sampling();
  sampling->set_frequency_penalty(0.5f);
  sampling->set_presence_penalty(-0.5f);
  sampling->set_n(4);
  (*sampling->mutable_logit_bias())[9] = 1.5f;
  (*sampling->mutable_logit_bias())[2] = -1.5f;
  auto* stopping = message.mutable_stopping();
  stopping->set_max_tokens(8);
  stopping->set_min_tokens(2);
  stopping->add_stop("\n\n");
  stopping->add_stop_token_ids(7);
  stopping->set_ignore_eos(true);
  stopping->set_include_stop(true);
  message.mutable_response()->set_logprobs(3);
  message.mutable_response()->set_return_routed_experts(true);

  const Request request = Converted(message);
  EXPECT_EQ(request.id, "mine");
  EXPECT_EQ(request.priority, -3);
  EXPECT_TRUE(request.bypass_prefix_cache);
  EXPECT_EQ(request.cache_salt, "salt");
  EXPECT_EQ(request.sampling.frequency_penalty, 0.5f);
  EXPECT_EQ(request.sampling.presence_penalty, -0.5f);
  EXPECT_EQ(request.sampling.n, 4);
  const std::vector<std::pair<int32_t, float>> bias = {{2, -1.5f}, {9, 1.5f}};
  EXPECT_EQ(request.sampling.logit_bias, bias);
  EXPECT_EQ(request.stopping.max_tokens, 8);
  EXPECT_EQ(request.stopping.min_tokens, 2);
  EXPECT_EQ(request.stopping.stop, std::vector<std::string>{"\n\n"});
  EXPECT_EQ(request.stopping.stop_token_ids, std::vector<int32_t>{7});
  EXPECT_TRUE(request.stopping.ignore_eos);
  EXPECT_TRUE(request.stopping.include_stop);
  EXPECT_EQ(request.response.logprobs, 3);
  EXPECT_TRUE(request.response.return_routed_experts);
}

TEST(Convert, IdsThatTheEngineCannotHoldAreRefusedByName) {
  constexpr uint32_t kHuge = std::numeric_limits<uint32_t>::max();
  v1::GenerateRequest prompt = Message();
  prompt.mutable_token_ids()->add_ids(kHuge);
  EXPECT_EQ(FieldOf(ToRequest(prompt, Tiny(), {}).status()), "token_ids");
  v1::GenerateRequest stop = Message();
  stop.mutable_stopping()->add_stop_token_ids(kHuge);
  EXPECT_EQ(FieldOf(ToRequest(stop, Tiny(), {}).status()), "stopping.stop_token_ids");
  v1::GenerateRequest bias = Message();
  (*bias.mutable_sampling()->mutable_logit_bias())[kHuge] = 1;
  EXPECT_EQ(FieldOf(ToRequest(bias, Tiny(), {}).status()), "sampling.logit_bias");
}

TEST(Convert, APromptBeyondTheContextIsRefusedByName) {
  v1::GenerateRequest message = Message();
  message.mutable_token_ids()->mutable_ids()->Resize(32, 1);
  EXPECT_EQ(FieldOf(ToRequest(message, Tiny(), {}).status()), "token_ids");
  message.mutable_token_ids()->mutable_ids()->Resize(31, 1);
  EXPECT_TRUE(ToRequest(message, Tiny(), {}).ok());
}

TEST(Convert, NoInputIsRefusedByName) {
  EXPECT_EQ(FieldOf(ToRequest(v1::GenerateRequest(), Tiny(), {}).status()), "input");
}

TEST(Convert, AnotherModelIsNotFound) {
  v1::GenerateRequest message = Message();
  message.set_model("other");
  EXPECT_TRUE(absl::IsNotFound(ToRequest(message, Tiny(), {}).status()));
}

TEST(Convert, NegativeLogprobsAreRefusedByName) {
  v1::GenerateRequest message = Message();
  message.mutable_response()->set_logprobs(-1);
  EXPECT_EQ(FieldOf(ToRequest(message, Tiny(), {}).status()), "response.logprobs");
  message.mutable_response()->clear_logprobs();
  message.mutable_response()->set_prompt_logprobs(-1);
  EXPECT_EQ(FieldOf(ToRequest(message, Tiny(), {}).status()), "response.prompt_logprobs");
}

TEST(Convert, ASeedIsNeededOnlyToSample) {
  v1::GenerateRequest message = Message();
  EXPECT_TRUE(NeedsSeed(message, Converted(message)));
  message.mutable_sampling()->set_temperature(0);
  EXPECT_FALSE(NeedsSeed(message, Converted(message)));
  message.mutable_sampling()->set_temperature(1);
  message.mutable_sampling()->set_seed(0);
  EXPECT_FALSE(NeedsSeed(message, Converted(message)));
}

TEST(Convert, ErrorsOfAPromptGivenAsTextNameTheText) {
  const absl::Status status = NameTextField(FieldError("token_ids", "9 tokens", "at most 8"));
  EXPECT_EQ(FieldOf(status), "text");
  EXPECT_EQ(status.message(), "text: found 9 tokens, expected at most 8");
  EXPECT_EQ(FieldOf(NameTextField(FieldError("sampling.n", "0", "1"))), "sampling.n");
  EXPECT_TRUE(NameTextField(absl::OkStatus()).ok());
}

OutputDelta Everything() {
  OutputDelta delta;
  delta.index = 1;
  delta.text = "ab";
  delta.token_ids = {3, 4};
  delta.logprobs = {{3, -0.5f, 1, {{3, -0.5f}, {8, -1.0f}}}};
  delta.prompt_logprobs = {{5, std::nullopt, 0, {}}, {6, -2.0f, 7, {}}};
  delta.finish_reason = FinishReason::kStop;
  delta.stop_match = "END";
  delta.routed_experts = RoutedExperts{2, 1, {1, 2}, 1, std::string("\x00\x01\x02\x03", 4)};
  delta.usage = Usage{10, 4, 8};
  return delta;
}

TEST(Convert, ADeltaBecomesAChunk) {
  const v1::GenerateChunk chunk = ToChunk("id", Everything());
  EXPECT_EQ(chunk.request_id(), "id");
  EXPECT_EQ(chunk.index(), 1u);
  EXPECT_EQ(chunk.text(), "ab");
  ASSERT_EQ(chunk.token_ids_size(), 2);
  EXPECT_EQ(chunk.token_ids(1), 4u);
  ASSERT_EQ(chunk.logprobs_size(), 1);
  EXPECT_EQ(chunk.logprobs(0).rank(), 1u);
  ASSERT_EQ(chunk.logprobs(0).top_size(), 2);
  EXPECT_EQ(chunk.logprobs(0).top(1).token_id(), 8u);
  ASSERT_EQ(chunk.prompt_logprobs_size(), 2);
  EXPECT_FALSE(chunk.prompt_logprobs(0).has_logprob());
  EXPECT_EQ(chunk.prompt_logprobs(1).logprob(), -2.0f);
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(chunk.stop_match(), "END");
  EXPECT_EQ(chunk.routed_experts().tokens(), 2u);
  EXPECT_EQ(chunk.routed_experts().k(), 1u);
  EXPECT_EQ(chunk.routed_experts().layers(1), 2u);
  EXPECT_EQ(chunk.routed_experts().bytes_per_id(), 1u);
  EXPECT_EQ(chunk.routed_experts().ids().size(), 4u);
  EXPECT_EQ(chunk.usage().cached_prompt_tokens(), 8u);
}

TEST(Convert, ChunksAddUpToTheUnaryAnswer) {
  v1::GenerateResponse response;
  response.add_outputs();
  response.add_outputs();
  OutputDelta first;
  first.index = 1;
  first.text = "x";
  first.token_ids = {2};
  first.logprobs = {{2, -1.0f, 1, {}}};
  Append(ToChunk("id", first), &response);
  Append(ToChunk("id", Everything()), &response);
  const v1::GenerateOutput& output = response.outputs(1);
  EXPECT_EQ(output.text(), "xab");
  EXPECT_EQ(output.token_ids_size(), 3);
  EXPECT_EQ(output.logprobs_size(), 2);
  EXPECT_EQ(output.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(output.stop_match(), "END");
  EXPECT_EQ(output.routed_experts().ids().size(), 4u);
  EXPECT_EQ(response.outputs(0).token_ids_size(), 0);
  EXPECT_EQ(response.prompt_logprobs_size(), 2);
  EXPECT_EQ(response.usage().completion_tokens(), 4u);
}

TEST(Convert, ModelInfoNamesTheMoeLayers) {
  ModelInfo info = Tiny();
  info.config.model_type = "deepseek_v3";
  info.config.layers = 4;
  info.config.is_moe = {false, true, true, true};
  info.config.experts = 16;
  info.config.experts_per_token = 4;
  info.parameters = int64_t{1} << 40;
  info.active_parameters = 37;
  info.compute = "exact";
  info.weights = "bf16";
  info.ranks = 2;
  const v1::GetModelInfoResponse message = ToModelInfo(info, true, "0.1.0");
  EXPECT_EQ(message.name(), "tiny");
  EXPECT_EQ(message.model_type(), "deepseek_v3");
  EXPECT_EQ(message.vocab_size(), 100u);
  EXPECT_EQ(message.max_context(), 32u);
  EXPECT_EQ(message.layers(), 4u);
  ASSERT_EQ(message.moe_layers_size(), 3);
  EXPECT_EQ(message.moe_layers(0), 1u);
  EXPECT_EQ(message.experts(), 16u);
  EXPECT_EQ(message.experts_per_token(), 4u);
  EXPECT_EQ(message.parameters(), uint64_t{1} << 40);
  EXPECT_EQ(message.active_parameters(), 37u);
  EXPECT_EQ(message.compute(), "exact");
  EXPECT_EQ(message.weights(), "bf16");
  EXPECT_TRUE(message.has_tokenizer());
  EXPECT_EQ(message.ranks(), 2u);
  EXPECT_EQ(message.version(), "0.1.0");
}

}  // namespace
}  // namespace ballast
