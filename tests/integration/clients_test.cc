// Clients that misbehave, or want too much, before the real server: each gets its answer, and
// nobody else notices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <boost/asio.hpp>
#include <thread>
#include <vector>

#include "server/units.h"
#include "tests/integration/served_model.h"
#include "tests/server/error_details.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using Code = grpc::StatusCode;

const char kAborted[] = R"(ballast_requests_total{finish_reason="aborted"})";

// A request of somebody else is answered as always.
void ExpectAnswers(ServedModel& server) {
  v1::GenerateResponse response;
  const grpc::Status status =
      server.stub().Generate(Context().get(), Ask("The experts", 8), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.outputs(0).token_ids_size(), 8);
}

grpc::Status Generate(v1::TextGeneration::Stub& stub, const v1::GenerateRequest& request) {
  v1::GenerateResponse response;
  return stub.Generate(Context().get(), request, &response);
}

TEST(Clients, OneThatStopsReadingDisturbsNobody) {
  ServedModel server;
  grpc::ChannelArguments small_window;
  small_window.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
  small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  auto stub = server.Connect(small_window);
  v1::GenerateRequest much = AskForever("much");
  much.mutable_sampling()->set_n(8);
  much.mutable_response()->set_logprobs(6144);  // some 60 KB a token
  Running slow(*stub, much);
  // Its buffers fill while others are served.
  const std::string rejected = R"(ballast_requests_rejected_total{reason="slow_reader"})";
  EXPECT_EQ(server.Metric(rejected), 0);
  ExpectAnswers(server);
  EXPECT_TRUE(server.AwaitMetric(rejected, 1)) << server.Get("/metrics").body;
  EXPECT_TRUE(server.AwaitIdle());
  ExpectAnswers(server);
  const grpc::Status status = slow.ReadToTheEnd();
  EXPECT_EQ(status.error_code(), Code::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("reads too slowly"));
  stub.reset();
  server.Stop();
}

TEST(Clients, MoreConnectionsThanDescriptorsDoNotDeafenIt) {
  ServedModel server;
  ExpectAnswers(server);
  const rlimit few{100, 100};
  ASSERT_EQ(prlimit(server.process().pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  const HostPort address = *ParseHostPort(server.grpc());
  {
    boost::asio::io_context context;
    std::vector<boost::asio::ip::tcp::socket> crowd;
    for (int i = 0; i < 200; ++i) {
      crowd.emplace_back(context);
      crowd.back().connect(
          {boost::asio::ip::address_v4::loopback(), static_cast<uint16_t>(address.port)});
    }
    ExpectAnswers(server);  // on the connection that it has
    EXPECT_EQ(server.Get("/health").status, 200);
    // Whoever is turned away sees his connection closed.
    char byte = 0;
    boost::system::error_code error;
    boost::asio::read(crowd.back(), boost::asio::buffer(&byte, 1), error);
    EXPECT_TRUE(error) << "a connection beyond the limit was served";
  }
  auto late = server.Connect();
  grpc::Status status;
  do {
    status = Generate(*late, Ask("The experts", 2));
  } while (status.error_code() == Code::UNAVAILABLE);  // the crowd is still on its way out
  EXPECT_TRUE(status.ok()) << status.error_message();
  server.Stop();
}

TEST(Clients, APassedDeadlineFreesTheKv) {
  ServedModel server;
  int chunks = 0;
  // On a busy machine the first token may come late: then once more, with more time.
  for (auto limit = std::chrono::milliseconds(500); chunks == 0 && limit < kHang; limit *= 2) {
    const auto context = Context(limit);
    const auto reader = server.stub().GenerateStream(context.get(), AskForever("late"));
    v1::GenerateChunk chunk;
    while (reader->Read(&chunk)) ++chunks;
    const grpc::Status status = reader->Finish();
    ASSERT_EQ(status.error_code(), Code::DEADLINE_EXCEEDED) << status.error_message();
    EXPECT_TRUE(server.AwaitIdle()) << server.Get("/metrics").body;
  }
  EXPECT_GT(chunks, 0) << "no token came before the deadline";
  EXPECT_GE(server.Metric(kAborted), 1) << server.Get("/metrics").body;  // not: ran to its end
  ExpectAnswers(server);
  server.Stop();
}

TEST(Clients, OneKilledMidStreamIsForgottenAndOthersGoOn) {
  ServedModel server({"--max-running", "128"});  // room for 64 outputs and somebody else
  Running other(server.stub(), AskForever("other"));
  Process client(server.GenerateCommand({"--ignore-eos", "The experts"}));
  ASSERT_TRUE(client.WaitForOut()) << client.Err();
  client.Signal(SIGKILL);
  EXPECT_TRUE(server.AwaitMetric(kAborted, 1)) << server.Get("/metrics").body;
  EXPECT_EQ(client.Wait().code, 128 + SIGKILL);
  EXPECT_TRUE(other.Read());
  other.Cancel();
  EXPECT_TRUE(server.AwaitIdle());
  EXPECT_EQ(server.Metric(kAborted), 2);
  server.Stop();
}

TEST(Clients, TwoWithTheSameIdAreToldApart) {
  ServedModel server;
  Running first(server.stub(), AskForever("same"));
  v1::GenerateRequest second = Ask("The experts", 4);
  second.set_request_id("same");
  const grpc::Status refused = Generate(server.stub(), second);
  EXPECT_EQ(refused.error_code(), Code::ALREADY_EXISTS) << refused.error_message();
  EXPECT_THAT(refused.error_message(), HasSubstr("same"));
  EXPECT_TRUE(first.Read());  // it does not end for the other's sake
  first.Cancel();
  EXPECT_TRUE(server.AwaitIdle());
  EXPECT_TRUE(Generate(server.stub(), second).ok());  // the id is free again
  server.Stop();
}

TEST(Clients, FiveMebibytesOfTextAreRefusedByName) {
  ServedModel server;
  Running other(server.stub(), AskForever("other"));
  std::string text;
  while (text.size() < size_t{5} << 20) text += "All work and no play makes a long prompt. ";
  const grpc::Status refused = Generate(server.stub(), Ask(text, 4));
  EXPECT_EQ(FieldOf(refused), "text");
  EXPECT_TRUE(other.Read());
  other.Cancel();
  ExpectAnswers(server);
  server.Stop();
}

TEST(Clients, TooManyAreTurnedAwayWithATimeToComeBack) {
  ServedModel server({"--max-running", "1", "--max-waiting", "2"});
  v1::GenerateRequest first = AskForever("first");
  first.set_priority(1);  // its 64 outputs come before whatever waits
  Running holder(server.stub(), first);
  // Not one of these gets a token while the first runs, so nothing is read from them.
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>>> waiting;
  for (const char* id : {"second", "third"}) {
    contexts.push_back(Context());
    waiting.push_back(server.stub().GenerateStream(contexts.back().get(), AskForever(id)));
  }
  // 63 outputs of the first wait too.
  ASSERT_TRUE(server.AwaitMetric("ballast_requests_waiting", 65)) << server.Get("/metrics").body;
  for (int i = 0; i < 20; ++i) {
    const grpc::Status refused = Generate(server.stub(), Ask("The experts", 4));
    ASSERT_EQ(refused.error_code(), Code::RESOURCE_EXHAUSTED) << refused.error_message();
    EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(refused).retry_delay().seconds(), 1);
    EXPECT_THAT(refused.error_message(), HasSubstr("--max-waiting is 2"));
  }
  EXPECT_EQ(server.Metric(R"(ballast_requests_rejected_total{reason="queue_full"})"), 20);
  EXPECT_TRUE(holder.Read());

  for (size_t i = 0; i < waiting.size(); ++i) {
    contexts[i]->TryCancel();
    EXPECT_EQ(waiting[i]->Finish().error_code(), Code::CANCELLED);
  }
  waiting.clear();
  contexts.clear();
  holder.Cancel();
  EXPECT_TRUE(server.AwaitIdle());
  ExpectAnswers(server);
  server.Stop();
}

}  // namespace
}  // namespace ballast
