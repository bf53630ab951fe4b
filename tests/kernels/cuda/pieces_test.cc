// Pieces of work that come again, on the CUDA device.
#include "kernels/cuda/pieces.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_stream.h"
#include "tests/kernels/kernel_sets.h"

namespace ballast::cuda {
namespace {

class PiecesTest : public testing::Test {
 protected:
  static constexpr int64_t kRows = 5;
  static constexpr int64_t kCols = 40;

  PiecesTest() : device_(*FindGpus().device), stream_(device_.create_stream(0, 1)) {
    for (void*& data : memory_) data = device_.allocate(stream_, kBytes);
  }
  ~PiecesTest() override {
    for (void* data : memory_) device_.release(data, kBytes);
    device_.destroy_stream(stream_);
  }
  MatView View(int i) { return {memory_[i], DType::kF32, kRows, kCols, kCols}; }
  // Clamps all of memory 0 to `limit` in memory 1, as a piece. Whether it was kept.
  bool Clamp(uint64_t key, float limit) {
    if (device_.replay(stream_, key)) return true;
    device_.convert(stream_, View(0), View(1));
    device_.clamp(stream_, View(1), limit);
    device_.end_piece(stream_);
    return false;
  }
  float ClampOf(uint64_t key, float value, float limit, bool* kept) {
    const std::vector<float> in(kRows * kCols, value);
    std::vector<float> out(kRows * kCols);
    device_.upload(stream_, memory_[0], in.data(), kBytes);
    *kept = Clamp(key, limit);
    device_.download(stream_, out.data(), memory_[1], kBytes);
    EXPECT_EQ(device_.synchronize(stream_), nullptr);
    EXPECT_EQ(out, std::vector<float>(kRows * kCols, out[0]));
    return out[0];
  }

  static constexpr size_t kBytes = kRows * kCols * sizeof(float);
  const Device& device_;
  const Stream stream_;
  void* memory_[2] = {};
};

TEST_F(PiecesTest, AreKeptFromTheSecondTimeAndSeeWhatMemoryHolds) {
  bool kept = false;
  EXPECT_EQ(ClampOf(1, 5, 10, &kept), 5);
  EXPECT_FALSE(kept);
  EXPECT_EQ(ClampOf(1, 20, 10, &kept), 10);
  EXPECT_FALSE(kept) << "it is recorded now";
  EXPECT_EQ(ClampOf(1, 7, 10, &kept), 7);
  EXPECT_TRUE(kept);
  EXPECT_EQ(ClampOf(2, 20, 15, &kept), 15);
  EXPECT_FALSE(kept) << "another key is another piece";
  EXPECT_EQ(ClampOf(1, 20, 99, &kept), 10) << "the arguments are those of the recording";
  EXPECT_TRUE(kept);
}

TEST_F(PiecesTest, AreForgottenWhenWorkingMemoryMoves) {
  bool kept = false;
  for (int i = 0; i < 3; ++i) ClampOf(1, 5, 10, &kept);
  EXPECT_TRUE(kept);
  ASSERT_NE(StreamOf(stream_).Reserve(size_t{1} << 20), nullptr);
  EXPECT_EQ(ClampOf(1, 5, 10, &kept), 5);
  EXPECT_FALSE(kept);
}

TEST_F(PiecesTest, AreForgottenWhenThereAreTooMany) {
  bool kept = false;
  for (int i = 0; i < 3; ++i) ClampOf(0, 5, 10, &kept);
  EXPECT_TRUE(kept);
  for (uint64_t key = 1; key <= Pieces::kMostPieces; ++key) {
    if (!device_.replay(stream_, key)) device_.end_piece(stream_);
  }
  EXPECT_EQ(ClampOf(0, 20, 10, &kept), 10);
  EXPECT_FALSE(kept);
}

TEST_F(PiecesTest, AreForgottenWhenTheyHoldTooMuch) {
  CudaStream& stream = StreamOf(stream_);
  ASSERT_TRUE(stream.Ready());
  Pieces pieces(/*most_nodes=*/5);
  // A piece of two nodes; whether it was kept.
  const auto give = [&](uint64_t key) {
    bool given = false;
    EXPECT_EQ(pieces.Replay(stream.queue(), key, &given), cudaSuccess);
    if (given) return true;
    for (void* data : memory_) {
      EXPECT_EQ(cudaMemsetAsync(data, 0, 4, stream.queue()), cudaSuccess);
    }
    EXPECT_EQ(pieces.End(stream.queue()), cudaSuccess);
    return false;
  };
  for (const uint64_t key : {1, 2}) {
    EXPECT_FALSE(give(key));
    EXPECT_FALSE(give(key));
    EXPECT_TRUE(give(key));
  }
  EXPECT_TRUE(give(1));
  EXPECT_FALSE(give(3));
  EXPECT_FALSE(give(3));
  EXPECT_TRUE(give(3));
  EXPECT_FALSE(give(1)) << "the third did not fit beside it";
  EXPECT_EQ(device_.synchronize(stream_), nullptr);
}

// A list of groups is read from memory that stays as long as the piece does.
TEST_F(PiecesTest, KeepListsOfGroups) {
  const std::vector<float> ones(kCols * kCols, 1.0f);
  const size_t bytes = device_.packed_bytes(DType::kF32, kCols, kCols);
  const PackedMatrix weight = {device_.allocate(stream_, bytes), DType::kF32, kCols, kCols};
  device_.pack(stream_, {ones.data(), DType::kF32, kCols, kCols, kCols, 1}, weight);
  const MatmulGroup groups[] = {{&weight, 0, 2, 0, 0}, {&weight, 2, 3, 0, 0}};
  for (int round = 0; round < 4; ++round) {
    const std::vector<float> in(kRows * kCols, static_cast<float>(round));
    std::vector<float> out(kRows * kCols);
    device_.upload(stream_, memory_[0], in.data(), kBytes);
    if (!device_.replay(stream_, 7)) {
      device_.matmul(stream_, View(0), groups, 2, View(1), false);
      device_.end_piece(stream_);
    }
    device_.download(stream_, out.data(), memory_[1], kBytes);
    EXPECT_EQ(device_.synchronize(stream_), nullptr);
    EXPECT_EQ(out, std::vector<float>(kRows * kCols, static_cast<float>(round * kCols)));
    // Other work uses working memory in between.
    device_.matmul(stream_, View(1), groups, 1, View(1 - 1), false);
    device_.matmul(stream_, View(0), groups, 2, View(1), false);
  }
  EXPECT_EQ(device_.synchronize(stream_), nullptr);
  device_.release(weight.data, bytes);
}

}  // namespace
}  // namespace ballast::cuda
