// Ranks as GPUs, one a thread each, and what they exchange.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "engine/comm/memory_rendezvous.h"
#include "engine/comm/nccl.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"

namespace ballast::test {

inline const Device& Gpus() { return *FindGpus().device; }

// Memory of a rank's GPU.
class GpuBytes {
 public:
  GpuBytes(int unit, size_t bytes) : stream_(Gpus().create_stream(unit, 1)), bytes_(bytes) {
    data_ = Gpus().allocate(stream_, bytes);
    CHECK(data_ != nullptr);
  }
  GpuBytes(int unit, const std::vector<uint8_t>& values) : GpuBytes(unit, values.size()) {
    Gpus().upload(stream_, data_, values.data(), values.size());
    EXPECT_EQ(Gpus().synchronize(stream_), nullptr);
  }
  ~GpuBytes() {
    Gpus().release(data_, bytes_);
    Gpus().destroy_stream(stream_);
  }
  GpuBytes(const GpuBytes&) = delete;
  GpuBytes& operator=(const GpuBytes&) = delete;

  void* data() const { return data_; }
  std::vector<uint8_t> Read(const void* from, size_t bytes) const {
    std::vector<uint8_t> values(bytes);
    Gpus().download(stream_, values.data(), from, bytes);
    EXPECT_EQ(Gpus().synchronize(stream_), nullptr);
    return values;
  }
  std::vector<uint8_t> Read() const { return Read(data_, bytes_); }

 private:
  const Stream stream_;
  const size_t bytes_;
  void* data_ = nullptr;
};

// Runs `body` as each rank in a thread of its own; they met in memory.
inline void RunMeeting(int ranks, const std::function<void(const NcclMeeting&)>& body) {
  MemoryRendezvous rendezvous;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    NcclMeeting meeting;
    meeting.rank = rank;
    meeting.size = ranks;
    meeting.unit = rank;
    meeting.purpose = "rows";
    meeting.prefix = "epoch-1";
    meeting.rendezvous = &rendezvous;
    threads.emplace_back([meeting, &body] { body(meeting); });
  }
  for (std::thread& thread : threads) thread.join();
}

inline void RunRanks(int ranks, std::chrono::milliseconds deadline,
                     const std::function<void(NcclCommunicator&)>& body) {
  RunMeeting(ranks, [&](const NcclMeeting& meeting) {
    auto comm = MakeNcclCommunicator(meeting, Gpus(), deadline);
    ASSERT_EQ(comm.status(), absl::OkStatus());
    body(**comm);
  });
}

// Rows of every rank, by rank and round, and who gets which: all ranks draw the same.
struct Drawn {
  DType type;
  int64_t rows, cols, stride;
  std::vector<std::vector<uint8_t>> values;              // [ranks]
  std::vector<std::vector<std::vector<int32_t>>> lists;  // [from][to]
};

inline Drawn Draw(int ranks, uint32_t seed) {
  std::mt19937 random(seed);
  Drawn drawn;
  drawn.type = seed % 2 == 0 ? DType::kF32 : DType::kBF16;
  drawn.rows = 1 + random() % 50;
  drawn.cols = 1 + random() % 70;
  drawn.stride = drawn.cols + random() % 3;
  drawn.lists.resize(static_cast<size_t>(ranks));
  for (auto& lists : drawn.lists) {
    drawn.values.emplace_back(static_cast<size_t>(drawn.rows * drawn.stride) * SizeOf(drawn.type));
    for (uint8_t& value : drawn.values.back()) value = static_cast<uint8_t>(random());
    lists.resize(static_cast<size_t>(ranks));
    for (std::vector<int32_t>& list : lists) {
      list.resize(random() % 3 == 0 ? 0 : random() % 40);
      for (int32_t& row : list) row = static_cast<int32_t>(random() % drawn.rows);
    }
  }
  return drawn;
}

// One exchange of what was drawn, checked to the bit. `as` maps the communicator's ranks to those
// drawn for.
inline void ExchangeDrawn(NcclCommunicator& comm, const Drawn& drawn,
                          const std::vector<size_t>& as) {
  const size_t own = as[static_cast<size_t>(comm.rank())];
  const GpuBytes matrix(static_cast<int>(own), drawn.values[own]);
  RowLists give;
  std::vector<int32_t> counts;
  give.begin.push_back(0);
  for (const size_t peer : as) {
    const std::vector<int32_t>& list = drawn.lists[own][peer];
    give.rows.insert(give.rows.end(), list.begin(), list.end());
    give.begin.push_back(static_cast<int32_t>(give.rows.size()));
    counts.push_back(static_cast<int32_t>(drawn.lists[peer][own].size()));
  }
  std::vector<const void*> received;
  ASSERT_EQ(comm.ExchangeRows({matrix.data(), drawn.type, drawn.rows, drawn.cols, drawn.stride},
                              give, counts, received),
            absl::OkStatus());
  const size_t row_bytes = static_cast<size_t>(drawn.cols) * SizeOf(drawn.type);
  const size_t stride_bytes = static_cast<size_t>(drawn.stride) * SizeOf(drawn.type);
  size_t at = 0;
  for (const size_t peer : as) {
    for (const int32_t row : drawn.lists[peer][own]) {
      const auto sent = drawn.values[peer].begin() + static_cast<int64_t>(row * stride_bytes);
      ASSERT_LT(at, received.size());
      ASSERT_EQ(matrix.Read(received[at++], row_bytes),
                std::vector<uint8_t>(sent, sent + static_cast<int64_t>(row_bytes)));
    }
  }
  ASSERT_EQ(at, received.size());
}

// Rank r gives its one row to each other rank.
inline absl::Status GiveToOthers(NcclCommunicator& comm, const GpuBytes& row,
                                 std::vector<const void*>& received) {
  RowLists give;
  std::vector<int32_t> counts;
  give.begin.push_back(0);
  for (int peer = 0; peer < comm.size(); ++peer) {
    if (peer != comm.rank()) give.rows.push_back(0);
    give.begin.push_back(static_cast<int32_t>(give.rows.size()));
    counts.push_back(peer == comm.rank() ? 0 : 1);
  }
  return comm.ExchangeRows({row.data(), DType::kF32, 1, 1, 1}, give, counts, received);
}

}  // namespace ballast::test
