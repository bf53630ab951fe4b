// Many clients at once for a while: nothing leaks, hangs, or changes an answer.
//
// BALLAST_LOAD_SECONDS in the environment says how long (20).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using Code = grpc::StatusCode;

constexpr int kStreams = 64;
constexpr int kLongest = 160;  // tokens of an answer
// Fewer than 64 of the longest answers need: outputs are preempted and cached prefixes dropped, and
// all of it has been touched long before the middle of the run.
constexpr char kKvMemory[] = "2MiB";
// Memory may differ by this much between the middle and the end. Allocators' slack moves by a few
// MiB; half a run makes hundreds of calls, so 10 KiB lost in each would show.
constexpr double kSteadyBytes = 4 << 20;

std::chrono::seconds LoadTime() {
  const char* seconds = std::getenv("BALLAST_LOAD_SECONDS");
  return std::chrono::seconds(seconds == nullptr ? 20 : std::max(1, std::atoi(seconds)));
}

double ResidentBytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return 1024 * std::atof(line.c_str() + 6);
  }
  return 0;
}

// Prompts, and what an idle server answers to them.
struct Question {
  v1::GenerateRequest request;
  std::vector<uint32_t> answer;
};

std::vector<Question> AskQuestions(v1::TextGeneration::Stub& stub) {
  const std::string long_prompt =
      "In the beginning of the year, when the snow had gone and the roads were open again, the two "
      "of them set out for the coast with";
  const std::vector<std::string> prompts = {"The experts",
                                            "Q: What is 25 + 17?\nA:", "And it came to pass",
                                            "func Max(x, y int) int {", long_prompt};
  std::vector<Question> questions;
  for (size_t i = 0; i < 2 * prompts.size(); ++i) {
    Question question;
    question.request = Ask(prompts[i / 2], kLongest);
    if (i % 2 == 1) {
      question.request.mutable_sampling()->set_temperature(1);
      question.request.mutable_sampling()->set_seed(i);
    }
    v1::GenerateResponse response;
    const grpc::Status status = stub.Generate(Context().get(), question.request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (!status.ok()) continue;
    const auto& ids = response.outputs(0).token_ids();
    question.answer.assign(ids.begin(), ids.end());
    EXPECT_EQ(ids.size(), kLongest);
    questions.push_back(std::move(question));
  }
  return questions;
}

// How often calls ended which way.
struct Endings {
  std::atomic<int> whole = 0;
  std::atomic<int> cancelled = 0;
  std::atomic<int> late = 0;  // past a deadline that was made short
};

// One client after another on one thread, half of which leave early.
class Clients {
 public:
  Clients(v1::TextGeneration::Stub& stub, const std::vector<Question>& questions, int number,
          Endings& endings)
      : stub_(stub),
        questions_(questions),
        random_(static_cast<unsigned>(number)),
        endings_(endings) {}

  void RunUntil(Clock::time_point end) {
    while (Clock::now() < end && !testing::Test::HasFailure()) {
      const int wanted = 1 + static_cast<int>(random_() % kLongest);
      switch (random_() % 8) {
        case 0:
        case 1:
        case 2:
          Stream(wanted, /*patience=*/static_cast<int>(random_() % wanted), kHang);
          break;
        case 3:
        case 4:
          Stream(wanted, wanted + 1, std::chrono::milliseconds(random_() % 1000));
          break;
        default:
          Stream(wanted, wanted + 1, kHang);
      }
    }
  }

 private:
  // Leaves after `patience` tokens, or past `limit`.
  void Stream(int wanted, int patience, std::chrono::milliseconds limit) {
    const Question& question = questions_[random_() % questions_.size()];
    v1::GenerateRequest request = question.request;
    request.mutable_stopping()->set_max_tokens(wanted);
    const auto context = Context(limit);
    const auto reader = stub_.GenerateStream(context.get(), request);
    v1::GenerateChunk chunk;
    int tokens = 0;
    bool over = false;
    while (tokens < patience && reader->Read(&chunk)) {
      for (const uint32_t id : chunk.token_ids()) {
        ASSERT_LT(tokens, wanted);
        ASSERT_EQ(id, question.answer[tokens]) << "token " << tokens << " of " << request.text();
        ++tokens;
      }
      over = chunk.has_usage();
    }
    const bool left = tokens >= patience;
    if (left) context->TryCancel();
    const grpc::Status status = reader->Finish();
    if (status.ok()) {
      ASSERT_TRUE(left || (over && tokens == wanted)) << tokens << " of " << wanted << " tokens";
      ++endings_.whole;
    } else if (left) {
      ASSERT_EQ(status.error_code(), Code::CANCELLED) << status.error_message();
      ++endings_.cancelled;
    } else {
      ASSERT_EQ(status.error_code(), Code::DEADLINE_EXCEEDED) << status.error_message();
      ASSERT_LT(limit, kHang) << "a call hangs";
      ++endings_.late;
    }
  }

  v1::TextGeneration::Stub& stub_;
  const std::vector<Question>& questions_;
  std::mt19937 random_;
  Endings& endings_;
};

// The median of a second's readings.
double SteadyResidentBytes(pid_t pid) {
  std::vector<double> readings;
  for (int i = 0; i < 11; ++i) {
    readings.push_back(ResidentBytes(pid));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::nth_element(readings.begin(), readings.begin() + 5, readings.end());
  return readings[5];
}

TEST(Load, SixtyFourStreamsHalfOfThemCancelledLeaveNothingBehind) {
  ServedModel server({"--kv-memory", kKvMemory, "--max-context", "256"});
  const std::vector<Question> questions = AskQuestions(server.stub());
  ASSERT_FALSE(HasFailure());

  const Clock::time_point start = Clock::now();
  Endings endings;
  std::vector<std::unique_ptr<v1::TextGeneration::Stub>> stubs;
  std::vector<std::thread> threads;
  for (int i = 0; i < kStreams; ++i) {
    if (i % 8 == 0) stubs.push_back(server.Connect());
    threads.emplace_back([&, &stub = *stubs.back(), i] {
      Clients(stub, questions, i, endings).RunUntil(start + LoadTime());
    });
  }
  std::this_thread::sleep_until(start + LoadTime() / 2);
  const double middle_bytes = SteadyResidentBytes(server.process().pid());
  const double running_in_the_middle = server.Metric("ballast_requests_running");
  std::this_thread::sleep_until(start + LoadTime() - std::chrono::seconds(1));
  const double end_bytes = SteadyResidentBytes(server.process().pid());
  for (std::thread& thread : threads) thread.join();
  stubs.clear();
  ASSERT_FALSE(HasFailure());

  EXPECT_TRUE(server.AwaitIdle()) << server.Get("/metrics").body;
  EXPECT_GT(running_in_the_middle, 0);
  // Most of those that left did so while the engine worked for them; it must have stopped.
  EXPECT_GT(server.Metric(R"(ballast_requests_total{finish_reason="aborted"})"),
            (endings.cancelled + endings.late) / 2);
  EXPECT_GT(endings.whole, 0);
  EXPECT_GT(endings.cancelled, 0);
  EXPECT_GT(endings.late, 0);
  EXPECT_LT(end_bytes - middle_bytes, kSteadyBytes);
  std::printf(
      "%d answers whole, %d cancelled, %d past their deadlines; %.0f preemptions; resident "
      "%.1f MiB in the middle, %.1f MiB at the end\n",
      endings.whole.load(), endings.cancelled.load(), endings.late.load(),
      server.Metric("ballast_preemptions_total"), middle_bytes / (1 << 20), end_bytes / (1 << 20));

  v1::GenerateResponse response;
  ASSERT_TRUE(server.stub().Generate(Context().get(), questions[0].request, &response).ok());
  const auto& ids = response.outputs(0).token_ids();
  EXPECT_EQ(std::vector<uint32_t>(ids.begin(), ids.end()), questions[0].answer);
  const std::string log = server.Stop();
  EXPECT_THAT(log, Not(HasSubstr(" error "))) << log;
  EXPECT_THAT(log, Not(HasSubstr(" warning "))) << log;
}

}  // namespace
}  // namespace ballast
