// What a layer's exchange costs at 2 ranks: counts all-gathered, half of the rows sent to the other
// rank and as many answers back, without any work in between.
//
// in_process points to rows; gloo carries them over TCP on this machine's loopback. The share of a
// limit is of the bytes a rank sends and takes, against one thread copying as many in memory.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "engine/comm/gloo.h"
#include "engine/comm/in_process.h"
#include "engine/comm/memory_rendezvous.h"

namespace ballast::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRanks = 2;
constexpr int kExperts = 256;
constexpr int kTopK = 8;
constexpr int kHidden = 2048;
constexpr int kRepeats = 200;
constexpr std::chrono::seconds kDeadline(30);

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(1);
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One rank's layers; median seconds of one.
double RunLayers(Communicator& comm, int tokens) {
  const int rows = tokens * kTopK;
  std::vector<uint16_t> x(static_cast<size_t>(tokens) * kHidden, 1);
  std::vector<float> y(static_cast<size_t>(rows) * kHidden, 1.0f);
  const MatView sent{x.data(), DType::kBF16, tokens, kHidden, kHidden};
  const MatView answers{y.data(), DType::kF32, rows, kHidden, kHidden};
  // Every other choice of a token goes to each rank.
  RowLists give;
  RowLists back;
  give.begin = back.begin = {0};
  for (int rank = 0; rank < kRanks; ++rank) {
    for (int i = rank; i < rows; i += kRanks) give.rows.push_back(i / kTopK);
    give.begin.push_back(static_cast<int32_t>(give.rows.size()));
    for (int i = 0; i < rows / kRanks; ++i) back.rows.push_back(rank * (rows / kRanks) + i);
    back.begin.push_back(static_cast<int32_t>(back.rows.size()));
  }
  const std::vector<int32_t> counts(kRanks, rows / kRanks);
  const std::vector<int32_t> mine(kExperts, 1);
  std::vector<int32_t> all(size_t{kRanks} * kExperts);
  std::vector<const void*> received;
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    const Clock::time_point start = Clock::now();
    Check(comm.AllGather(mine, all));
    Check(comm.ExchangeRows(sent, give, counts, received));
    Check(comm.ExchangeRows(answers, back, counts, received));
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  Check(comm.AllGather(mine, all));  // until then the other may read from the last exchange
  return Median(std::move(seconds));
}

double RunRanks(const std::function<double(int rank)>& body) {
  double first = 0;
  std::thread other([&] { body(1); });
  first = body(0);
  other.join();
  return first;
}

double InProcess(int tokens) {
  const auto comms = MakeInProcessCommunicators(kRanks, kDeadline);
  return RunRanks([&](int rank) { return RunLayers(*comms[static_cast<size_t>(rank)], tokens); });
}

double Gloo(int tokens) {
  MemoryRendezvous rendezvous;
  return RunRanks([&](int rank) {
    Meeting meeting;
    meeting.rank = rank;
    meeting.size = kRanks;
    meeting.rendezvous = &rendezvous;
    auto mesh = GlooMesh::Connect(meeting, "rows");
    Check(mesh.status());
    GlooCommunicator comm(*std::move(mesh), kDeadline);
    comm.BeginStep({1, 1, 1});
    return RunLayers(comm, tokens);
  });
}

double CopySeconds(size_t bytes) {
  const std::vector<char> from(bytes, 1);
  std::vector<char> to(bytes);
  std::vector<double> seconds;
  for (int i = 0; i < 20; ++i) {
    const Clock::time_point start = Clock::now();
    std::memcpy(to.data(), from.data(), bytes);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return Median(std::move(seconds));
}

void Print() {
  std::printf("a layer's exchange at %d ranks, hidden %d, top %d, bf16 out, f32 back\n", kRanks,
              kHidden, kTopK);
  std::printf("%8s %14s %10s %12s %14s\n", "tokens", "in_process us", "gloo us", "gloo MB/s",
              "of memcpy");
  for (const int tokens : {1, 8, 64, 256}) {
    const double here = InProcess(tokens);
    const double tcp = Gloo(tokens);
    // A rank sends half of its rows, and takes as many; rows and answers.
    const size_t bytes = size_t{2} * static_cast<size_t>(tokens * kTopK / 2) * kHidden * (2 + 4);
    std::printf("%8d %14.1f %10.1f %12.0f %13.1f%%\n", tokens, 1e6 * here, 1e6 * tcp,
                1e-6 * static_cast<double>(bytes) / tcp, 100 * CopySeconds(bytes) / tcp);
  }
}

}  // namespace
}  // namespace ballast::bench

int main() {
  ballast::bench::Print();
  return 0;
}
