// Generate and the errors that it shares with GenerateStream.
#include <cmath>
#include <future>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/generate_call.h"
#include "tests/server/grpc_fixture.h"

namespace ballast {
namespace {

using Code = grpc::StatusCode;

std::unique_ptr<FakeEngine> Answering(std::vector<OutputDelta> deltas,
                                      std::unique_ptr<Tokenizer> tokenizer = nullptr) {
  return std::make_unique<FakeEngine>(std::move(tokenizer),
                                      [deltas](const Request&) { return deltas; });
}

class GrpcGenerate : public GrpcTest {
 protected:
  void ExpectInvalid(const v1::GenerateRequest& request, const std::string& field) {
    const grpc::Status status = Generate(request);
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
    EXPECT_NE(status.error_message().find("expected"), std::string::npos);
    EXPECT_EQ(engine_->live(), 0);
  }
};

TEST_F(GrpcGenerate, JoinsTheDeltasOfEveryOutput) {
  Serve(Answering({Delta("he", {1}, 0), Delta("wo", {7}, 1), Delta("llo", {2, 3}, 0),
                   Last(Delta("rld", {8}, 1), FinishReason::kLength)}));
  v1::GenerateRequest request = Ids({5, 6, 7}, "mine");
  request.mutable_sampling()->set_n(2);
  v1::GenerateResponse response;
  ASSERT_TRUE(Generate(request, &response).ok());
  EXPECT_EQ(response.request_id(), "mine");
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_EQ(response.outputs(0).text(), "hello");
  EXPECT_EQ(response.outputs(0).token_ids_size(), 3);
  EXPECT_EQ(response.outputs(1).index(), 1u);
  EXPECT_EQ(response.outputs(1).text(), "world");
  EXPECT_EQ(response.outputs(1).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.usage().prompt_tokens(), 3u);
  EXPECT_TRUE(rejected().empty());
}

TEST_F(GrpcGenerate, MakesUpRequestIdsThatDiffer) {
  Serve(Answering({Last(Delta("", {1}))}));
  std::set<std::string> ids;
  for (int i = 0; i < 10; ++i) {
    v1::GenerateResponse response;
    ASSERT_TRUE(Generate(Ids({5}), &response).ok());
    EXPECT_FALSE(response.request_id().empty());
    ids.insert(response.request_id());
  }
  EXPECT_EQ(ids.size(), 10u);
}

TEST_F(GrpcGenerate, ReportsTheSeedThatItDrew) {
  Serve(std::make_unique<FakeEngine>());
  auto answer = std::async(std::launch::async, [&] { return Generate(Ids({5}, "a")); });
  const Request request = engine_->AwaitRequest("a");
  engine_->Say("a", Last(Delta("", {1})));
  ASSERT_TRUE(answer.get().ok());
  ASSERT_EQ(seeds().size(), 1u);
  EXPECT_EQ(seeds()[0], request.sampling.seed);

  v1::GenerateRequest seeded = Ids({5}, "b");
  seeded.mutable_sampling()->set_seed(0);
  answer = std::async(std::launch::async, [&] { return Generate(seeded); });
  EXPECT_EQ(engine_->AwaitRequest("b").sampling.seed, 0u);
  engine_->Say("b", Last(Delta("", {1})));
  ASSERT_TRUE(answer.get().ok());
  EXPECT_EQ(seeds().size(), 1u);
}

TEST_F(GrpcGenerate, NamesTheFieldOfEveryBadValue) {
  Serve(Answering({Last(Delta("", {1}))}, MiniTokenizer()));
  ExpectInvalid(v1::GenerateRequest(), "input");
  ExpectInvalid(Ids({}), "token_ids");
  ExpectInvalid(Ids({1'000'000}), "token_ids");
  ExpectInvalid(Ids({std::numeric_limits<uint32_t>::max()}), "token_ids");
  ExpectInvalid(Ids(std::vector<uint32_t>(100'000, 5)), "token_ids");
  v1::GenerateRequest request = Ids({5});
  for (const float bad : {std::nanf(""), -1.0f, std::numeric_limits<float>::infinity()}) {
    request.mutable_sampling()->set_temperature(bad);
    ExpectInvalid(request, "sampling.temperature");
  }
  request = Ids({5});
  request.mutable_sampling()->set_top_k(-7);
  ExpectInvalid(request, "sampling.top_k");
  request = Ids({5});
  request.mutable_sampling()->set_n(100'000);
  ExpectInvalid(request, "sampling.n");
  request = Ids({5});
  (*request.mutable_sampling()->mutable_logit_bias())[7000] = 1;
  ExpectInvalid(request, "sampling.logit_bias");
  request = Ids({5});
  request.mutable_stopping()->set_max_tokens(0);
  ExpectInvalid(request, "stopping.max_tokens");
  request = Ids({5});
  request.mutable_response()->set_logprobs(1'000'000);
  ExpectInvalid(request, "response.logprobs");
  for (const std::string& reason : rejected()) EXPECT_EQ(reason, "invalid");
  EXPECT_EQ(rejected().size(), 13u);
}

TEST_F(GrpcGenerate, RefusesAStopStringOfAMegabyteAndTenThousandOfThem) {
  Serve(Answering({Last(Delta("", {1}))}, MiniTokenizer()));
  v1::GenerateRequest request = Ids({5});
  request.mutable_stopping()->add_stop(std::string(1 << 20, 'x'));
  ExpectInvalid(request, "stopping.stop");
  request = Ids({5});
  for (int i = 0; i < 10'000; ++i) request.mutable_stopping()->add_stop("a" + std::to_string(i));
  ExpectInvalid(request, "stopping.stop");
}

TEST_F(GrpcGenerate, TextIsEncoded) {
  auto engine = std::make_unique<FakeEngine>(MiniTokenizer());
  engine->mutable_info().config.vocab_size = engine->tokenizer()->vocab_size();
  engine->mutable_info().limits.vocab_size = engine->tokenizer()->vocab_size();
  Serve(std::move(engine));
  v1::GenerateRequest request;
  request.set_request_id("a");
  request.set_text("The experts");
  auto answer = std::async(std::launch::async, [&] { return Generate(request); });
  EXPECT_EQ(engine_->AwaitRequest("a").prompt, *engine_->tokenizer()->Encode("The experts", true));
  engine_->Say("a", Last(Delta("", {1})));
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(GrpcGenerate, APromptOfFiveMebibytesIsReadAndRefusedAsTooLong) {
  Serve(Answering({Last(Delta("", {1}))}, MiniTokenizer()));
  v1::GenerateRequest request;
  std::string text;
  while (text.size() < (5 << 20)) text += "one more word ";
  request.set_text(text);
  ExpectInvalid(request, "text");
}

TEST_F(GrpcGenerate, TextWithoutTokenizerFailsThePrecondition) {
  Serve(Answering({Last(Delta("", {1}))}));
  v1::GenerateRequest request;
  request.set_text("hello");
  grpc::Status status = Generate(request);
  EXPECT_EQ(status.error_code(), Code::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "NO_TOKENIZER");
  request = Ids({5});
  request.mutable_stopping()->add_stop("x");
  status = Generate(request);
  EXPECT_EQ(status.error_code(), Code::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "NO_TOKENIZER");
  EXPECT_EQ(rejected(), (std::vector<std::string>{"no_tokenizer", "no_tokenizer"}));
}

TEST_F(GrpcGenerate, AnAnswerTooLargeToGatherIsGivenUpAndItsRequestFreed) {
  Serve(std::make_unique<FakeEngine>());
  // Were their bytes not given back, the last would have no room.
  for (int i = 0; i < 5; ++i) {
    const std::string id = absl::StrCat("much", i);
    std::thread teller([this, id] {
      engine_->AwaitRequest(id);
      for (int half = 0; half < 2; ++half) {
        engine_->Say(id, Delta(std::string(UnaryCall::kAnswerBytes / 2 + 1, 'x'), {1}));
      }
      engine_->AwaitCancelled(id);
    });
    const grpc::Status status = Generate(Ids({5}, id));
    teller.join();
    EXPECT_EQ(status.error_code(), Code::RESOURCE_EXHAUSTED);
    EXPECT_NE(status.error_message().find("GenerateStream"), std::string::npos);
    EXPECT_EQ(rejected().back(), "answer_too_large");
  }
  std::thread teller([this] {
    engine_->AwaitRequest("little");
    engine_->Say("little", Last(Delta("x", {1})));
  });
  EXPECT_TRUE(Generate(Ids({5}, "little")).ok());
  teller.join();
}

TEST_F(GrpcGenerate, AnotherModelIsNotFound) {
  Serve(Answering({Last(Delta("", {1}))}));
  v1::GenerateRequest request = Ids({5});
  request.set_model("tiny");
  EXPECT_TRUE(Generate(request).ok());
  request.set_model("huge");
  const grpc::Status status = Generate(request);
  EXPECT_EQ(status.error_code(), Code::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "MODEL_NOT_FOUND");
  EXPECT_NE(status.error_message().find("tiny"), std::string::npos);
}

TEST_F(GrpcGenerate, AFullQueueSaysWhenToRetry) {
  Serve(std::make_unique<FakeEngine>());
  engine_->RefuseWith(absl::ResourceExhaustedError("the queue is full: 9 of 9 requests wait"));
  const grpc::Status status = Generate(Ids({5}));
  EXPECT_EQ(status.error_code(), Code::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 1);
  EXPECT_EQ(rejected(), std::vector<std::string>{"queue_full"});
}

TEST_F(GrpcGenerate, ALiveDuplicateIsRefusedAndTheFirstGoesOn) {
  Serve(std::make_unique<FakeEngine>());
  auto first = std::async(std::launch::async, [&] { return Generate(Ids({5}, "twin")); });
  engine_->AwaitRequest("twin");
  const grpc::Status second = Generate(Ids({5}, "twin"));
  EXPECT_EQ(second.error_code(), Code::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(second), "DUPLICATE_REQUEST_ID");
  EXPECT_EQ(rejected(), std::vector<std::string>{"duplicate"});
  EXPECT_EQ(engine_->live(), 1);
  engine_->Say("twin", Last(Delta("", {1})));
  EXPECT_TRUE(first.get().ok());
}

TEST_F(GrpcGenerate, ADrainingEngineIsUnavailable) {
  Serve(std::make_unique<FakeEngine>());
  auto running = std::async(std::launch::async, [&] { return Generate(Ids({5}, "a")); });
  engine_->AwaitRequest("a");
  engine_->StartDrain();
  grpc::Status status = Generate(Ids({5}, "b"));
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  EXPECT_EQ(rejected(), std::vector<std::string>{"draining"});
  engine_->FailAll("past the drain limit of 30 s");
  status = running.get();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "past the drain limit of 30 s");
  EXPECT_EQ(ReasonOf(status), "UNAVAILABLE");
}

TEST_F(GrpcGenerate, ADeadlineFreesTheRequest) {
  Serve(std::make_unique<FakeEngine>());
  grpc::ClientContext context;
  ASSERT_TRUE(
      channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::minutes(1)));
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  v1::GenerateResponse response;
  const grpc::Status status = stub_->Generate(&context, Ids({5}, "late"), &response);
  EXPECT_EQ(status.error_code(), Code::DEADLINE_EXCEEDED);
  engine_->AwaitCancelled("late");
  EXPECT_EQ(engine_->live(), 0);
}

TEST_F(GrpcGenerate, ACancelledCallFreesItsRequestAndNoOther) {
  Serve(std::make_unique<FakeEngine>());
  grpc::ClientContext context;
  v1::GenerateResponse response;
  auto call = std::async(std::launch::async,
                         [&] { return stub_->Generate(&context, Ids({5}, "a"), &response); });
  auto other = std::async(std::launch::async, [&] { return Generate(Ids({5}, "b")); });
  engine_->AwaitRequest("a");
  engine_->AwaitRequest("b");
  context.TryCancel();
  EXPECT_EQ(call.get().error_code(), Code::CANCELLED);
  engine_->AwaitCancelled("a");
  engine_->Say("b", Last(Delta("", {1})));
  EXPECT_TRUE(other.get().ok());
  EXPECT_TRUE(rejected().empty());
}

TEST_F(GrpcGenerate, AbortEndsARequestWithOk) {
  Serve(std::make_unique<FakeEngine>());
  v1::GenerateResponse response;
  auto call = std::async(std::launch::async, [&] { return Generate(Ids({5}, "a"), &response); });
  engine_->AwaitRequest("a");
  const auto abort = [&] {
    grpc::ClientContext context;
    v1::AbortRequest request;
    request.set_request_id("a");
    v1::AbortResponse aborted;
    EXPECT_TRUE(stub_->Abort(&context, request, &aborted).ok());
    return aborted.aborted();
  };
  EXPECT_TRUE(abort());
  ASSERT_TRUE(call.get().ok());
  EXPECT_EQ(response.outputs(0).finish_reason(), v1::FINISH_REASON_ABORTED);
  EXPECT_FALSE(abort());
}

}  // namespace
}  // namespace ballast
