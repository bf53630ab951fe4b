#include "bench/stream_client.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "ballast/v1/text_generation.grpc.pb.h"

namespace ballast::bench {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClientPlan, server, streams, prompt_tokens, vocab_size, tokens,
                                   waiting, requests, threads)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StreamFigures, tokens, chunks, failed, seconds, first_ms_p50,
                                   first_ms_p99, between_ms_p50, between_ms_p99)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RefusalFigures, refused, other, alone_ms_p50, alone_ms_p99,
                                   alone_ms_max, together_ms_p50, together_ms_p99, together_ms_max)

namespace {

using Clock = std::chrono::steady_clock;
using Stub = v1::TextGeneration::Stub;

constexpr char kStreamsFlag[] = "--client-of-streams";
constexpr char kOverflowFlag[] = "--client-of-overflow";
constexpr std::chrono::minutes kLimit(10);

double Milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double Quantile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const size_t at = std::min(values.size() - 1, static_cast<size_t>(share * values.size()));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return values[at];
}

std::unique_ptr<Stub> Connect(const ClientPlan& plan) {
  return v1::TextGeneration::NewStub(
      grpc::CreateChannel(plan.server, grpc::InsecureChannelCredentials()));
}

v1::GenerateRequest MakeRequest(const ClientPlan& plan, int number) {
  std::mt19937 random(static_cast<unsigned>(number));
  v1::GenerateRequest request;
  for (int i = 0; i < plan.prompt_tokens; ++i) {
    request.mutable_token_ids()->add_ids(random() % static_cast<unsigned>(plan.vocab_size));
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(plan.tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

struct StreamTimes {
  bool ok = false;
  int64_t tokens = 0;
  Clock::time_point asked;
  std::vector<Clock::time_point> chunks;
};

StreamTimes ReadStream(Stub& stub, const v1::GenerateRequest& request) {
  StreamTimes times;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kLimit);
  times.asked = Clock::now();
  const auto reader = stub.GenerateStream(&context, request);
  v1::GenerateChunk chunk;
  while (reader->Read(&chunk)) {
    if (chunk.token_ids_size() == 0) continue;
    times.chunks.push_back(Clock::now());
    times.tokens += chunk.token_ids_size();
  }
  const grpc::Status status = reader->Finish();
  times.ok = status.ok();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
  return times;
}

StreamFigures ReadStreams(const ClientPlan& plan) {
  const std::unique_ptr<Stub> stub = Connect(plan);
  std::vector<StreamTimes> all(static_cast<size_t>(plan.streams));
  std::vector<std::thread> threads;
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < plan.streams; ++i) {
    threads.emplace_back(
        [&, i] { all[static_cast<size_t>(i)] = ReadStream(*stub, MakeRequest(plan, i)); });
  }
  for (std::thread& thread : threads) thread.join();
  StreamFigures figures;
  figures.seconds = 1e-3 * Milliseconds(start, Clock::now());
  std::vector<double> first;
  std::vector<double> between;
  for (const StreamTimes& times : all) {
    figures.failed += times.ok ? 0 : 1;
    figures.tokens += times.tokens;
    figures.chunks += static_cast<int64_t>(times.chunks.size());
    if (!times.chunks.empty()) first.push_back(Milliseconds(times.asked, times.chunks[0]));
    for (size_t i = 1; i < times.chunks.size(); ++i) {
      between.push_back(Milliseconds(times.chunks[i - 1], times.chunks[i]));
    }
  }
  figures.first_ms_p50 = Quantile(first, 0.5);
  figures.first_ms_p99 = Quantile(first, 0.99);
  figures.between_ms_p50 = Quantile(between, 0.5);
  figures.between_ms_p99 = Quantile(between, 0.99);
  return figures;
}

// A request that nobody reads to its end.
struct OpenStream {
  OpenStream(Stub& stub, const v1::GenerateRequest& request)
      : reader(stub.GenerateStream(&context, request)) {}
  ~OpenStream() {
    context.TryCancel();
    v1::GenerateChunk chunk;
    while (reader->Read(&chunk)) {
    }
    reader->Finish();
  }
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>> reader;
};

// How long a refusal took; negative when it was none.
double RefusalMilliseconds(Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  v1::GenerateResponse response;
  const Clock::time_point start = Clock::now();
  const grpc::Status status = stub.Generate(&context, request, &response);
  const double passed = Milliseconds(start, Clock::now());
  return status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ? passed : -1;
}

// The refusals of `count` requests from each of so many threads.
std::vector<double> Refusals(Stub& stub, const v1::GenerateRequest& request, int threads, int count,
                             int& other) {
  std::mutex mutex;
  std::vector<double> all;
  std::vector<std::thread> senders;
  for (int i = 0; i < threads; ++i) {
    senders.emplace_back([&] {
      for (int j = 0; j < count; ++j) {
        const double passed = RefusalMilliseconds(stub, request);
        const std::lock_guard lock(mutex);
        if (passed < 0) {
          ++other;
        } else {
          all.push_back(passed);
        }
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  return all;
}

RefusalFigures Overflow(const ClientPlan& plan) {
  const std::unique_ptr<Stub> stub = Connect(plan);
  v1::GenerateRequest request = MakeRequest(plan, 0);
  // Its outputs take all places for as long as this lasts, and come before what waits.
  v1::GenerateRequest holding = request;
  holding.mutable_sampling()->set_n(plan.streams);
  holding.mutable_stopping()->clear_max_tokens();
  holding.set_priority(1);
  OpenStream holder(*stub, holding);
  std::set<uint32_t> running;
  v1::GenerateChunk chunk;
  while (running.size() < static_cast<size_t>(plan.streams) && holder.reader->Read(&chunk)) {
    running.insert(chunk.index());
  }
  std::vector<std::unique_ptr<OpenStream>> waiting;
  for (int i = 0; i < plan.waiting; ++i) {
    waiting.push_back(std::make_unique<OpenStream>(*stub, request));
  }
  // A request that came before the last of them took a place that is free when it gives up.
  for (int i = 0; i < 5 && RefusalMilliseconds(*stub, request) < 0; ++i) {
    waiting.push_back(std::make_unique<OpenStream>(*stub, request));
  }
  RefusalFigures figures;
  const int half = plan.requests / 2;
  std::vector<double> alone = Refusals(*stub, request, 1, half, figures.other);
  std::vector<double> together =
      Refusals(*stub, request, plan.threads, half / plan.threads, figures.other);
  figures.refused = static_cast<int>(alone.size() + together.size());
  figures.alone_ms_p50 = Quantile(alone, 0.5);
  figures.alone_ms_p99 = Quantile(alone, 0.99);
  figures.alone_ms_max = Quantile(alone, 1);
  figures.together_ms_p50 = Quantile(together, 0.5);
  figures.together_ms_p99 = Quantile(together, 0.99);
  figures.together_ms_max = Quantile(together, 1);
  return figures;
}

// Runs this program with the flag and the plan, and reads the figures that it prints.
template <typename Figures>
bool Spawn(const char* flag, const ClientPlan& plan, Figures& figures) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::string program = "server_bench";
  std::string name = flag;
  std::string text = nlohmann::json(plan).dump();
  char* arguments[] = {program.data(), name.data(), text.data(), nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string printed;
  char piece[4096];
  for (ssize_t got = 0; error == 0 && (got = read(ends[0], piece, sizeof(piece))) > 0;) {
    printed.append(piece, static_cast<size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  if (error == 0) waitpid(pid, &status, 0);
  const auto json = nlohmann::json::parse(printed, nullptr, /*allow_exceptions=*/false);
  if (error != 0 || status != 0 || json.is_discarded()) {
    std::fprintf(stderr, "the client process failed\n");
    return false;
  }
  figures = json.get<Figures>();
  return true;
}

}  // namespace

bool RunStreams(const ClientPlan& plan, StreamFigures& figures) {
  return Spawn(kStreamsFlag, plan, figures);
}

bool RunOverflow(const ClientPlan& plan, RefusalFigures& figures) {
  return Spawn(kOverflowFlag, plan, figures);
}

bool RunClient(int argc, char** argv, int& exit_code) {
  const std::string flag = argc == 3 ? argv[1] : "";
  if (flag != kStreamsFlag && flag != kOverflowFlag) return false;
  const auto plan = nlohmann::json::parse(argv[2]).get<ClientPlan>();
  const nlohmann::json figures =
      flag == kStreamsFlag ? nlohmann::json(ReadStreams(plan)) : nlohmann::json(Overflow(plan));
  std::printf("%s\n", figures.dump().c_str());
  exit_code = std::fflush(stdout) == 0 ? 0 : 1;
  return true;
}

}  // namespace ballast::bench
