#include "engine/engine_loop.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "tests/engine/checkpoint/checkpoint_files.h"
#include "tests/support/golden.h"
#include "tests/support/run_engine.h"

namespace ballast::test {
namespace {

using testing::HasSubstr;

EngineOptions MiniOptions() {
  EngineOptions options;
  options.model = std::string(BALLAST_SOURCE_DIR) + "/models/ballast-mini";
  options.threads = 1;
  options.kv_memory_bytes = 4 << 20;
  return options;
}

EngineOptions GoldenOptions() {
  EngineOptions options;
  options.model = GoldenFolder("qwen3_moe-norm");
  options.threads = 1;
  return options;
}

Request Ids(std::vector<int32_t> prompt, int max_tokens, std::string id = "a") {
  Request request;
  request.id = std::move(id);
  request.prompt = std::move(prompt);
  request.stopping.max_tokens = max_tokens;
  request.stopping.ignore_eos = true;
  return request;
}

Request Text(const Engine& engine, std::string_view text, int max_tokens) {
  Request request = Ids(*engine.tokenizer()->Encode(text, true), max_tokens);
  request.sampling.temperature = 0;
  return request;
}

TEST(Engine, DoesASum) {
  const auto engine = MakeEngine(MiniOptions());
  Request request = Text(*engine, "Q: What is 25 + 17?\nA:", 8);
  request.stopping.stop = {"\n"};
  const Answer answer = Ask(*engine, request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.outputs[0].text, " 42");
  EXPECT_EQ(answer.outputs[0].finish_reason, FinishReason::kStop);
  EXPECT_EQ(answer.outputs[0].stop_match, "\n");
}

TEST(Engine, StopStringsStayInTheTextOnlyWhenAsked) {
  const auto engine = MakeEngine(MiniOptions());
  Request request = Text(*engine, "Q: What is 25 + 17?\nA:", 8);
  request.stopping.stop = {"2"};
  request.stopping.include_stop = true;
  EXPECT_EQ(Ask(*engine, request).outputs[0].text, " 42");
}

TEST(Engine, AStopTokenEndsTheOutputAndIsCounted) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids({5, 6, 7}, 10);
  request.sampling.temperature = 0;
  const Answer free = Ask(*engine, request);
  request.stopping.stop_token_ids = {free.outputs[0].tokens[3]};
  const Answer answer = Ask(*engine, request);
  EXPECT_EQ(answer.outputs[0].finish_reason, FinishReason::kStop);
  EXPECT_LE(answer.outputs[0].tokens.size(), 4u);
  EXPECT_EQ(answer.outputs[0].tokens.back(), free.outputs[0].tokens[3]);
  EXPECT_EQ(answer.usage.completion_tokens, static_cast<int>(answer.outputs[0].tokens.size()));
}

TEST(Engine, MinTokensHoldStopTokensBack) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids({5, 6, 7}, 10);
  request.sampling.temperature = 0;
  const Answer free = Ask(*engine, request);
  request.stopping.stop_token_ids = {free.outputs[0].tokens[0]};
  request.stopping.min_tokens = 5;
  const Answer answer = Ask(*engine, request);
  EXPECT_GE(answer.outputs[0].tokens.size(), 5u);
  EXPECT_NE(answer.outputs[0].tokens[0], free.outputs[0].tokens[0]);
}

TEST(Engine, MinTokensHoldEvenWhereEveryTokenIsAStop) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids({5, 6, 7}, 10);
  for (int32_t token = 0; token < engine->info().limits.vocab_size; ++token) {
    request.stopping.stop_token_ids.push_back(token);
  }
  request.stopping.min_tokens = 5;
  const Answer answer = Ask(*engine, request);
  EXPECT_EQ(answer.outputs[0].tokens.size(), 6u);
  EXPECT_EQ(answer.outputs[0].finish_reason, FinishReason::kStop);
}

// A model whose last matrix is so large, though finite, that every logit overflows.
TEST(Engine, LogitsThatAreNoNumbersFailTheirRequest) {
  FileTensors tensors = GoldenTensors("qwen3_moe-norm");
  std::string& head = tensors.at("lm_head.weight").bytes;
  for (size_t i = 0; i < head.size(); i += 2) head.replace(i, 2, "\x7f\x7f");
  const TempFolder folder;
  folder.Write("config.json", GoldenConfig("qwen3_moe-norm").dump());
  folder.Write("model.safetensors", FileOf(tensors));
  EngineOptions options = GoldenOptions();
  options.model = folder.path();
  const auto engine = MakeEngine(options);
  Request request = Ids({5, 6, 7}, 10);
  request.sampling.n = 2;
  for (const int prompt_logprobs : {-1, 0}) {
    request.response.prompt_logprobs = prompt_logprobs;
    const Answer answer = Ask(*engine, request);
    EXPECT_TRUE(absl::IsInternal(answer.status)) << answer.status;
    EXPECT_THAT(std::string(answer.status.message()), HasSubstr("NaN or infinity"));
    EXPECT_TRUE(answer.outputs[0].tokens.empty());
  }
  EXPECT_EQ(engine->Stats().live, 0);
  while (engine->Stats().kv_usage_ratio > 0) {  // it is told before the step ends
    std::this_thread::yield();
  }
}

TEST(Engine, WithoutMaxTokensRunsToTheEndOfTheContext) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids({5, 6, 7}, 0);
  request.stopping.max_tokens.reset();
  const Answer answer = Ask(*engine, request);
  EXPECT_EQ(answer.outputs[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(answer.usage.prompt_tokens + answer.usage.completion_tokens,
            engine->info().max_context);
}

TEST(Engine, NOutputsDifferAndShareThePrompt) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids(std::vector<int32_t>(40, 9), 12);
  request.sampling.n = 3;
  request.sampling.seed = 5;
  const Answer answer = Ask(*engine, request);
  ASSERT_EQ(answer.outputs.size(), 3u);
  EXPECT_EQ(answer.usage.completion_tokens, 36);
  EXPECT_EQ(answer.usage.prompt_tokens, 40);
  EXPECT_NE(answer.outputs[0].tokens, answer.outputs[1].tokens);
  EXPECT_NE(answer.outputs[1].tokens, answer.outputs[2].tokens);
  // Output 0 is what n = 1 gives.
  request.sampling.n = 1;
  EXPECT_EQ(Ask(*engine, request).outputs[0].tokens, answer.outputs[0].tokens);
}

TEST(Engine, ReportsCachedPromptTokensInWholeBlocks) {
  const auto engine = MakeEngine(GoldenOptions());
  const Request request = Ids(std::vector<int32_t>(48, 9), 2);
  EXPECT_EQ(Ask(*engine, request).usage.cached_prompt_tokens, 0);
  EXPECT_EQ(Ask(*engine, request).usage.cached_prompt_tokens, 32);  // below the 48 of the prompt
  Request salted = request;
  salted.cache_salt = "tenant";
  EXPECT_EQ(Ask(*engine, salted).usage.cached_prompt_tokens, 0);
  Request bypass = request;
  bypass.bypass_prefix_cache = true;
  EXPECT_EQ(Ask(*engine, bypass).usage.cached_prompt_tokens, 0);
}

TEST(Engine, AbortEndsAnOutputWithItsTextSoFar) {
  const auto engine = MakeEngine(MiniOptions());
  Request request = Ids({5, 6, 7}, 2000, "long");
  const auto pending = Start(*engine, request);
  pending->WaitForDeltas(2);
  EXPECT_TRUE(engine->Abort("long"));
  const Answer answer = pending->Wait();
  EXPECT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.outputs[0].finish_reason, FinishReason::kAborted);
  EXPECT_FALSE(engine->Abort("long"));
}

TEST(Engine, AbortEndsEveryOutputOfAWaitingRequest) {
  EngineOptions options = GoldenOptions();
  options.max_running = 1;
  const auto engine = MakeEngine(options);
  const auto first = Start(*engine, Ids({5, 6, 7}, 200, "first"));
  Request waiting = Ids({5, 6, 7}, 200, "waiting");
  waiting.sampling.n = 3;
  const auto second = Start(*engine, waiting);
  EXPECT_TRUE(engine->Abort("waiting"));
  const Answer answer = second->Wait();
  for (const Collected& out : answer.outputs) {
    EXPECT_EQ(out.finish_reason, FinishReason::kAborted);
  }
  EXPECT_TRUE(first->Wait().status.ok());
}

TEST(Engine, RefusesALiveDuplicate) {
  const auto engine = MakeEngine(MiniOptions());
  const auto pending = Start(*engine, Ids({5}, 2000, "same"));
  const absl::Status status = engine->Submit(Ids({5}, 2, "same"), [](auto, auto) {});
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(status.message(), HasSubstr("\"same\""));
  engine->Abort("same");
  pending->Wait();
  EXPECT_TRUE(Ask(*engine, Ids({5}, 2, "same")).status.ok());
}

TEST(Engine, AFullQueueAnswersAtOnceWithNumbers) {
  EngineOptions options = MiniOptions();
  options.max_running = 1;
  options.max_waiting = 2;
  const auto engine = MakeEngine(options);
  std::vector<std::unique_ptr<Pending>> pending;
  pending.push_back(Start(*engine, Ids({5}, 2000, "running")));
  pending.back()->WaitForDeltas(1);
  pending.push_back(Start(*engine, Ids({5}, 2, "w1")));
  pending.push_back(Start(*engine, Ids({5}, 2, "w2")));
  const absl::Status full = engine->Submit(Ids({5}, 2, "w3"), [](auto, auto) {});
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(full.message(), HasSubstr("2 requests wait"));
  engine->Abort("running");
  for (const auto& p : pending) EXPECT_TRUE(p->Wait().status.ok());
}

TEST(Engine, WaitingTokensAreBoundedToo) {
  EngineOptions options = MiniOptions();
  options.max_running = 1;
  options.max_waiting_tokens = 10;
  const auto engine = MakeEngine(options);
  const auto running = Start(*engine, Ids({5}, 2000, "running"));
  running->WaitForDeltas(1);
  // A lone prompt longer than the bound may wait; a second one may not join it.
  const auto waits = Start(*engine, Ids(std::vector<int32_t>(20, 5), 2, "w1"));
  const absl::Status full = engine->Submit(Ids({5}, 2, "w2"), [](auto, auto) {});
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  engine->Abort("running");
  EXPECT_TRUE(waits->Wait().status.ok());
  running->Wait();
}

TEST(Engine, CancelIsSilentAndFreesEverything) {
  const auto engine = MakeEngine(MiniOptions());
  std::atomic<int> calls{0};
  ASSERT_TRUE(engine->Submit(Ids({5}, 2000, "gone"), [&](auto, auto) { ++calls; }).ok());
  EXPECT_TRUE(engine->Cancel("gone"));
  while (engine->Stats().live > 0) std::this_thread::yield();
  const int then = calls;
  Ask(*engine, Ids({6}, 3));
  EXPECT_EQ(calls, then);
  while (engine->Stats().running > 0) std::this_thread::yield();
  EXPECT_EQ(engine->Stats().kv_usage_ratio, 0);
}

TEST(Engine, DrainingRefusesNewRequestsAndFinishesOldOnes) {
  const auto engine = MakeEngine(GoldenOptions());
  const auto pending = Start(*engine, Ids({5}, 100, "old"));
  engine->StartDrain();
  const absl::Status status = engine->Submit(Ids({5}, 2, "new"), [](auto, auto) {});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pending->Wait().outputs[0].tokens.size(), 100u);
}

TEST(Engine, FailAllFailsWhatLives) {
  const auto engine = MakeEngine(MiniOptions());
  const auto pending = Start(*engine, Ids({5}, 2000, "old"));
  engine->FailAll("time is up");
  const Answer answer = pending->Wait();
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(answer.status.message(), HasSubstr("time is up"));
}

TEST(Engine, DestroyingItFailsWhatLives) {
  auto engine = MakeEngine(MiniOptions());
  const auto pending = Start(*engine, Ids({5}, 2000, "old"));
  engine.reset();
  EXPECT_EQ(pending->Wait().status.code(), absl::StatusCode::kUnavailable);
}

TEST(Engine, HigherPriorityGoesFirst) {
  EngineOptions options = MiniOptions();
  options.max_running = 1;
  const auto engine = MakeEngine(options);
  std::vector<int> order;  // written by the loop thread alone
  std::atomic<int> over{0};
  const auto submit = [&](int number, int priority) {
    Request request = Ids({5}, number == 0 ? 1000 : 2, "p" + std::to_string(number));
    request.priority = priority;
    ASSERT_TRUE(engine
                    ->Submit(request,
                             [&, number](absl::Status, OutputDelta delta) {
                               if (!delta.usage) return;
                               order.push_back(number);
                               ++over;
                             })
                    .ok());
  };
  submit(0, 0);
  while (engine->Stats().running == 0) std::this_thread::yield();
  submit(1, 0);
  submit(2, 0);
  submit(3, 5);
  while (engine->Stats().waiting < 3) std::this_thread::yield();
  engine->Abort("p0");
  while (over < 4) std::this_thread::yield();
  EXPECT_THAT(order, testing::ElementsAre(0, 3, 1, 2));
}

TEST(Engine, CountsWhatItDid) {
  int prompt = 0;
  int generated = 0;
  int64_t expert_rows = 0;
  std::vector<RequestReport> reports;
  int first_tokens = 0;
  int latencies = 0;
  EngineEvents events;
  events.on_tokens = [&](int p, int g) {
    prompt += p;
    generated += g;
  };
  events.on_step = [&](const StepReport& step) {
    for (const int64_t rows : step.result->ranks[0].expert_rows) expert_rows += rows;
  };
  events.on_request_over = [&](const RequestReport& report) { reports.push_back(report); };
  events.on_first_token = [&](double) { ++first_tokens; };
  events.on_token_latency = [&](double) { ++latencies; };
  auto engine = MakeEngine(GoldenOptions(), events);
  Ask(*engine, Ids({5, 6, 7}, 5));
  const ModelConfig config = engine->info().config;
  engine.reset();
  EXPECT_EQ(prompt, 3);
  EXPECT_EQ(generated, 5);
  // The last token does not go through the model; the warm-up step does not count.
  EXPECT_EQ(expert_rows,
            7 * config.experts_per_token * static_cast<int64_t>(MoeLayers(config).size()));
  EXPECT_EQ(first_tokens, 1);
  EXPECT_EQ(latencies, 4);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].finish_reason, FinishReason::kLength);
}

TEST(Engine, PromptLogprobsOfOneTokenAreItselfAlone) {
  const auto engine = MakeEngine(GoldenOptions());
  Request request = Ids({5}, 2);
  request.response.prompt_logprobs = 0;
  const Answer answer = Ask(*engine, request);
  ASSERT_EQ(answer.prompt_logprobs.size(), 1u);
  EXPECT_EQ(answer.prompt_logprobs[0].token, 5);
  EXPECT_FALSE(answer.prompt_logprobs[0].logprob.has_value());
}

TEST(Engine, CreateNamesWhatItCannotDo) {
  const auto error = [](EngineOptions options) {
    return Engine::Create(options, {}, [](size_t, size_t) {}).status();
  };
  EngineOptions options = GoldenOptions();
  options.kernels = "sse9";
  EXPECT_THAT(error(options).message(), HasSubstr("--kernels: found \"sse9\""));
  options = GoldenOptions();
  options.device = "tpu";
  EXPECT_THAT(error(options).message(), HasSubstr("--device: found \"tpu\""));
  options = GoldenOptions();
  options.device = "cuda";
  EXPECT_THAT(error(options).message(), HasSubstr("--device cuda: this build has no CUDA"));
  options = GoldenOptions();
  options.model = "/no/such/folder";
  EXPECT_THAT(error(options).message(), HasSubstr("/no/such/folder"));
  options = GoldenOptions();
  options.kv_memory_bytes = int64_t{1} << 50;
  EXPECT_EQ(error(options).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(error(options).message(), HasSubstr("does not fit"));
}

// Random arrivals, aborts and cancels from several threads: all end, and all blocks come back.
TEST(Engine, SurvivesAStorm) {
  EngineOptions options = GoldenOptions();
  options.max_running = 8;
  options.max_waiting = 1000;
  options.kv_memory_bytes = 1 << 20;
  const auto engine = MakeEngine(options);
  std::atomic<int> over{0};
  std::atomic<int> expected{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        const std::string id = std::to_string(t) + "-" + std::to_string(i);
        Request request = Ids(std::vector<int32_t>(1 + (i * 7) % 90, 5 + t), 1 + i % 20, id);
        request.priority = i % 3;
        request.sampling.n = 1 + i % 2;
        const bool cancel = i % 3 == 1;
        if (!cancel) ++expected;
        ASSERT_TRUE(engine
                        ->Submit(request,
                                 [&, cancel](absl::Status, OutputDelta delta) {
                                   if (delta.usage && !cancel) ++over;
                                 })
                        .ok());
        if (cancel) engine->Cancel(id);
        if (i % 5 == 2) engine->Abort(id);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  while (engine->Stats().live > 0) std::this_thread::yield();
  EXPECT_EQ(over, expected);
  // The loop publishes its figures once it is idle.
  while (engine->Stats().running > 0) std::this_thread::yield();
  EXPECT_EQ(engine->Stats().kv_usage_ratio, 0);
  EXPECT_EQ(engine->Stats().waiting, 0);
}

}  // namespace
}  // namespace ballast::test
