// The CUDA device's own parts: streams, memory, packed weights. Its verbs have tests of their own.
#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/tile_plan.h"
#include "tests/kernels/kernel_sets.h"
#include "tests/support/gpus.h"

namespace ballast::cuda {
namespace {

using testing::HasSubstr;

class CudaDevice : public testing::Test {
 protected:
  CudaDevice()
      : device_(*FindGpus().device),
        unit_(device_.units() - 1),
        stream_(device_.create_stream(unit_, 1)) {}
  ~CudaDevice() override {
    for (const auto& [data, bytes] : memory_) device_.release(data, bytes);
    device_.destroy_stream(stream_);
  }
  void* Allocate(size_t bytes) {
    memory_.emplace_back(device_.allocate(stream_, bytes), bytes);
    return memory_.back().first;
  }
  std::vector<char> Read(const void* data, size_t bytes) {
    std::vector<char> host(bytes);
    device_.download(stream_, host.data(), data, bytes);
    EXPECT_EQ(device_.synchronize(stream_), nullptr);
    return host;
  }

  const Device& device_;
  const int unit_;  // the last, so that another is not taken for it
  const Stream stream_;
  std::vector<std::pair<void*, size_t>> memory_;
};

TEST_F(CudaDevice, TakesWhatIsUploadedAtTheCall) {
  // More than the ring holds, in pieces of odd sizes, each overwritten at once.
  std::mt19937 random(1);
  std::vector<char> all(StagingRing::kPieceBytes * (StagingRing::kPieces + 3));
  for (char& byte : all) byte = static_cast<char>(random());
  char* const to = static_cast<char*>(Allocate(all.size()));
  std::vector<char> piece;
  for (size_t at = 0; at < all.size(); at += piece.size()) {
    piece.assign(
        all.begin() + static_cast<ptrdiff_t>(at),
        all.begin() + static_cast<ptrdiff_t>(std::min(all.size(), at + 1 + random() % 999999)));
    device_.upload(stream_, to + at, piece.data(), piece.size());
    std::memset(piece.data(), 0, piece.size());
  }
  EXPECT_TRUE(Read(to, all.size()) == all);
}

TEST_F(CudaDevice, DeliversManyDownloadsAtOnce) {
  std::vector<int> numbers(100000);
  std::iota(numbers.begin(), numbers.end(), 0);
  int* const data = static_cast<int*>(Allocate(numbers.size() * sizeof(int)));
  device_.upload(stream_, data, numbers.data(), numbers.size() * sizeof(int));
  std::vector<int> first(10), all(numbers.size()), last(7);
  device_.download(stream_, first.data(), data, first.size() * sizeof(int));
  device_.download(stream_, all.data(), data, all.size() * sizeof(int));
  device_.download(stream_, last.data(), data + 5000, last.size() * sizeof(int));
  EXPECT_EQ(device_.synchronize(stream_), nullptr);
  EXPECT_EQ(first[9], 9);
  EXPECT_EQ(all, numbers);
  EXPECT_EQ(last[6], 5006);
}

TEST_F(CudaDevice, CopiesBetweenGpus) {
  if (const std::string few = test::TooFewGpus(2); !few.empty()) GTEST_SKIP() << few;
  const Stream other = device_.create_stream(0, 1);
  void* const there = device_.allocate(other, 1000);
  std::vector<char> bytes(1000, 'x');
  device_.upload(other, there, bytes.data(), bytes.size());
  EXPECT_EQ(device_.synchronize(other), nullptr);
  void* const here = Allocate(1000);
  device_.copy(stream_, here, there, 1000);
  EXPECT_EQ(Read(here, 1000), bytes);
  device_.release(there, 1000);
  device_.destroy_stream(other);
}

TEST_F(CudaDevice, HasItsOwnMemoryAndSaysHowMuch) {
  constexpr size_t kBytes = size_t{64} << 20;  // a GPU counts in pages of 2 MiB
  const size_t before = device_.available_memory(unit_);
  Allocate(kBytes);
  const size_t after = device_.available_memory(unit_);
  EXPECT_LE(after, before - kBytes);
  EXPECT_GE(after, before - 2 * kBytes);
  EXPECT_EQ(device_.allocate(stream_, before), nullptr);
  EXPECT_EQ(device_.synchronize(stream_), nullptr) << "no memory is no failure of the stream";
}

TEST_F(CudaDevice, KeepsTheFirstFailure) {
  const Stream stream = device_.create_stream(0, 1);
  void* const data = device_.allocate(stream, 64);
  device_.copy(stream, nullptr, data, 64);
  device_.upload(stream, data, "abc", 3);
  const char* const failure = device_.synchronize(stream);
  ASSERT_NE(failure, nullptr);
  EXPECT_THAT(failure, HasSubstr("GPU 0: copy: invalid argument"));
  EXPECT_EQ(device_.synchronize(stream), failure);
  device_.release(data, 64);
  device_.destroy_stream(stream);
}

// Every type into every type, transposed too, unaligned, rows longer than a piece of the ring.
TEST_F(CudaDevice, PacksRowsAndPadsThemWithZeros) {
  const Runner cpu("reference");
  struct Shape {
    int64_t n, k;
  };
  for (const Shape& shape : {Shape{1, 1}, {7, 33}, {60, 700}, {2, (1 << 19) + 3}}) {
    for (const DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const DType to : {DType::kF32, DType::kBF16}) {
        const bool transposed = shape.n == 60;
        const DType bits = from == DType::kF16 ? DType::kBF16 : from;  // are some f16 or other
        const Matrix source =
            Matrix::Random(bits, transposed ? shape.k : shape.n, transposed ? shape.n : shape.k, 5);
        HostMatrix in = source.Host();
        in.type = from;
        if (transposed) in = {in.data, from, shape.n, shape.k, 1, in.row_stride};
        const size_t bytes = device_.packed_bytes(to, shape.n, shape.k);
        const PackedMatrix packed = {Allocate(bytes), to, shape.n, shape.k};
        device_.pack(stream_, in, packed);
        const std::vector<char> got = Read(packed.data, bytes);
        const int64_t stride = PackedStride(shape.k);
        ASSERT_EQ(bytes, static_cast<size_t>(shape.n * stride) * SizeOf(to));
        for (int64_t row = 0; row < shape.n; ++row) {
          for (int64_t col = 0; col < stride; ++col) {
            char want[4] = {};
            if (col < shape.k) {
              StoreFloat(want, to, 0,
                         LoadUnaligned(in.data, from, row * in.row_stride + col * in.col_stride));
            }
            ASSERT_EQ(std::memcmp(At(got.data(), to, row * stride + col), want, SizeOf(to)), 0)
                << "row " << row << ", column " << col;
          }
        }
      }
    }
  }
}

// A checkpoint may hold one expert in f32 and the next in bf16.
TEST_F(CudaDevice, MultipliesGroupsOfBothTypesAsTheCpuDoes) {
  const Runner cpu("reference");
  constexpr int64_t kRows = 9, kN = 20, kK = 30;
  Matrix x = Matrix::Random(DType::kF32, kRows, kK, 1);
  Matrix want(DType::kF32, kRows, kN);
  const Packed on_cpu[] = {{cpu, DType::kF32, Matrix::Random(DType::kF32, kN, kK, 2)},
                           {cpu, DType::kBF16, Matrix::Random(DType::kF32, kN, kK, 3)}};
  const auto groups_of = [&](const PackedMatrix& first, const PackedMatrix& second) {
    return std::vector<MatmulGroup>{{&first, 0, 4, 0, 0}, {&second, 4, 5, 0, 0}};
  };
  const auto cpu_groups = groups_of(on_cpu[0].matrix(), on_cpu[1].matrix());
  cpu->matmul(cpu.stream(), x.View(), cpu_groups.data(), 2, want.View(), false);

  PackedMatrix on_gpu[2];
  for (int i = 0; i < 2; ++i) {
    const DType type = on_cpu[i].matrix().type;
    on_gpu[i] = {Allocate(device_.packed_bytes(type, kN, kK)), type, kN, kK};
    const Matrix source = Matrix::Random(DType::kF32, kN, kK, static_cast<uint32_t>(2 + i));
    device_.pack(stream_, source.Host(), on_gpu[i]);
  }
  MatView gpu_x = x.View();
  MatView out = want.View();
  const size_t x_bytes = static_cast<size_t>(gpu_x.rows * gpu_x.stride) * sizeof(float);
  const size_t out_bytes = static_cast<size_t>(out.rows * out.stride) * sizeof(float);
  gpu_x.data = Allocate(x_bytes);
  out.data = Allocate(out_bytes);
  device_.upload(stream_, gpu_x.data, x.View().data, x_bytes);
  device_.upload(stream_, out.data, want.View().data, out_bytes);
  device_.clamp(stream_, out, 0);
  const auto gpu_groups = groups_of(on_gpu[0], on_gpu[1]);
  device_.matmul(stream_, gpu_x, gpu_groups.data(), 2, out, false);
  const std::vector<char> got = Read(out.data, out_bytes);
  EXPECT_EQ(std::memcmp(got.data(), want.View().data, out_bytes), 0);
}

}  // namespace
}  // namespace ballast::cuda
