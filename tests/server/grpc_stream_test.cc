// GenerateStream: order, cancellation, and clients that do not read.
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/chunk_queue.h"
#include "tests/server/grpc_fixture.h"

namespace ballast {
namespace {

using Code = grpc::StatusCode;
using Reader = std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>>;

class GrpcStream : public GrpcTest {
 protected:
  // A server with these limits on slow readers, before a client that takes in little ahead of its
  // reads.
  void ServeSlowReader(std::chrono::milliseconds slow_reader_limit,
                       std::chrono::milliseconds linger_limit) {
    GrpcOptions options;
    options.slow_reader_limit = slow_reader_limit;
    options.linger_limit = linger_limit;
    Serve(std::make_unique<FakeEngine>(), options);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    Connect(arguments);
  }

  // Begins the stream of request "a", once the engine has it.
  Reader Begin() {
    Reader reader = stub_->GenerateStream(&context_, Ids({5}, "a"));
    engine_->AwaitRequest("a");
    return reader;
  }

  // More than the buffers of two sockets and a small window take.
  void SayTooMuch(const std::string& id) {
    for (int i = 0; i < 48; ++i) engine_->Say(id, Delta(std::string(256 << 10, 'x'), {1}));
  }

  static grpc::Status ReadToTheEnd(const Reader& reader) {
    v1::GenerateChunk chunk;
    while (reader->Read(&chunk)) {
    }
    return reader->Finish();
  }

  grpc::ClientContext context_;
};

TEST_F(GrpcStream, DeltasComeInOrderAndUsageComesLast) {
  Serve(std::make_unique<FakeEngine>());
  const Reader reader = stub_->GenerateStream(&context_, Ids({5, 6, 7}, "a"));
  engine_->AwaitRequest("a");
  OutputDelta first = Delta("w0 ", {0});
  first.prompt_logprobs = {{5, std::nullopt, 0, {}}};
  engine_->Say("a", first);
  v1::GenerateChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));  // before there is more: the delta did not wait
  EXPECT_EQ(chunk.request_id(), "a");
  EXPECT_EQ(chunk.text(), "w0 ");
  EXPECT_EQ(chunk.prompt_logprobs_size(), 1);
  EXPECT_FALSE(chunk.has_usage());

  constexpr int kTokens = 500;
  std::string want = "w0 ";
  for (int i = 1; i < kTokens; ++i) {
    const std::string word = "w" + std::to_string(i) + " ";
    want += word;
    engine_->Say("a", Delta(word, {i}));
  }
  engine_->Say("a", Last(Delta("end", {kTokens})));
  want += "end";
  std::string text = chunk.text();
  uint32_t token = 1;
  bool over = false;
  while (reader->Read(&chunk)) {
    EXPECT_FALSE(over);
    text += chunk.text();
    for (const uint32_t id : chunk.token_ids()) EXPECT_EQ(id, token++);
    EXPECT_EQ(chunk.prompt_logprobs_size(), 0);
    over = chunk.has_usage();
    EXPECT_EQ(over, chunk.finish_reason() == v1::FINISH_REASON_STOP);
  }
  EXPECT_TRUE(over);
  EXPECT_EQ(text, want);
  EXPECT_EQ(token, kTokens + 1u);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcStream, AFailureComesAfterWhatWasSaidBefore) {
  Serve(std::make_unique<FakeEngine>());
  const Reader reader = Begin();
  engine_->Say("a", Delta("said", {1}));
  engine_->Fail("a", absl::UnavailableError("rank 1 is lost"));
  v1::GenerateChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.text(), "said");
  EXPECT_FALSE(reader->Read(&chunk));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "UNAVAILABLE");
}

TEST_F(GrpcStream, RefusalsAreThoseOfGenerate) {
  Serve(std::make_unique<FakeEngine>());
  EXPECT_EQ(FieldOf(ReadToTheEnd(stub_->GenerateStream(&context_, v1::GenerateRequest()))),
            "input");
}

TEST_F(GrpcStream, CancellingMidStreamFreesTheRequest) {
  Serve(std::make_unique<FakeEngine>());
  const Reader reader = Begin();
  engine_->Say("a", Delta("x", {1}));
  v1::GenerateChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  context_.TryCancel();
  engine_->AwaitCancelled("a");
  EXPECT_EQ(reader->Finish().error_code(), Code::CANCELLED);
  EXPECT_TRUE(rejected().empty());
}

TEST_F(GrpcStream, AClientThatIsGoneFreesTheRequest) {
  Serve(std::make_unique<FakeEngine>());
  auto context = std::make_unique<grpc::ClientContext>();
  Reader reader = stub_->GenerateStream(context.get(), Ids({5}, "a"));
  engine_->AwaitRequest("a");
  reader.reset();
  context.reset();  // without Finish: the call is dropped
  stub_.reset();
  channel_.reset();
  engine_->AwaitCancelled("a");
}

TEST_F(GrpcStream, ASlowReaderIsAbortedAndItsRequestFreed) {
  ServeSlowReader(std::chrono::milliseconds(100), std::chrono::hours(1));
  const Reader reader = Begin();
  SayTooMuch("a");
  engine_->AwaitCancelled("a");
  const grpc::Status status = ReadToTheEnd(reader);
  EXPECT_EQ(status.error_code(), Code::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 1);
  EXPECT_EQ(rejected(), std::vector<std::string>{"slow_reader"});
}

TEST_F(GrpcStream, AReaderFarBehindIsAbortedBeforeItsTime) {
  ServeSlowReader(std::chrono::hours(1), std::chrono::hours(1));
  const Reader reader = Begin();
  for (int i = 0; i < 4; ++i) SayTooMuch("a");
  engine_->AwaitCancelled("a");
  EXPECT_EQ(ReadToTheEnd(reader).error_code(), Code::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcStream, AReaderThatLagsWithinTheLimitLosesNothing) {
  ServeSlowReader(std::chrono::hours(1), std::chrono::hours(1));
  const Reader reader = Begin();
  SayTooMuch("a");
  engine_->Say("a", Last(Delta("", {2})));
  v1::GenerateChunk chunk;
  size_t bytes = 0;
  while (reader->Read(&chunk)) {
    EXPECT_LE(chunk.ByteSizeLong(), ChunkQueue::kMergedBytes);
    bytes += chunk.text().size();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(bytes, 48u * (256u << 10));
}

TEST_F(GrpcStream, AClientThatNeverReadsIsCutOff) {
  ServeSlowReader(std::chrono::milliseconds(50), std::chrono::milliseconds(50));
  const Reader reader = Begin();
  SayTooMuch("a");
  engine_->AwaitCancelled("a");
  // Shutdown waits for calls that live; one that was cut off is none.
  const auto start = std::chrono::steady_clock::now();
  server_->Shutdown(std::chrono::minutes(4));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(2));
  EXPECT_FALSE(ReadToTheEnd(reader).ok());
}

TEST_F(GrpcStream, ShutdownEndsStreamsAtItsLimit) {
  Serve(std::make_unique<FakeEngine>());
  const Reader reader = Begin();
  server_->Shutdown(std::chrono::milliseconds(10));
  engine_->AwaitCancelled("a");
  EXPECT_FALSE(ReadToTheEnd(reader).ok());
}

TEST_F(GrpcStream, ShutdownLetsStreamsEnd) {
  Serve(std::make_unique<FakeEngine>());
  const Reader reader = Begin();
  std::thread shutdown([&] { server_->Shutdown(std::chrono::minutes(4)); });
  engine_->Say("a", Last(Delta("x", {1})));
  v1::GenerateChunk chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
  shutdown.join();
}

TEST_F(GrpcStream, ManyStreamsCancelledAtRandomLeaveNothingBehind) {
  constexpr int kTokens = 30;
  Serve(std::make_unique<FakeEngine>(nullptr, [](const Request&) {
    std::vector<OutputDelta> deltas;
    for (int i = 0; i < kTokens; ++i) deltas.push_back(Delta("w ", {i}));
    deltas.push_back(Last(Delta("", {kTokens})));
    return deltas;
  }));
  std::atomic<int> done = 0;
  std::atomic<int> cancelled = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&, client] {
      std::mt19937 random(static_cast<unsigned>(client));
      for (int i = 0; i < 40; ++i) {
        grpc::ClientContext context;
        const Reader reader = stub_->GenerateStream(&context, Ids({5}));
        const uint32_t stop = random() % 2 == 0 ? random() % kTokens : 1000;
        v1::GenerateChunk chunk;
        uint32_t token = 0;
        while (token < stop && reader->Read(&chunk)) {
          for (const uint32_t id : chunk.token_ids()) EXPECT_EQ(id, token++);
        }
        if (token >= stop) context.TryCancel();
        const grpc::Status status = reader->Finish();
        if (status.ok()) ++done;
        if (status.error_code() == Code::CANCELLED) ++cancelled;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(done + cancelled, 8 * 40);
  EXPECT_GT(done, 0);
  server_->Shutdown(std::chrono::minutes(4));
  EXPECT_EQ(engine_->live(), 0);
}

}  // namespace
}  // namespace ballast
