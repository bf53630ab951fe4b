#include "engine/model/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/model/weights.h"
#include "tests/engine/checkpoint/checkpoint_files.h"
#include "tests/engine/checkpoint/fake_device.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

// Two experts' matrices of 3 x 4 in one tensor, one byte off the alignment of its elements.
template <typename Bits>
class Part {
 public:
  Part() : bytes_(1 + 24 * sizeof(Bits)) {}

  void Set(int64_t element, Bits bits) {
    std::memcpy(bytes_.data() + 1 + static_cast<size_t>(element) * sizeof(Bits), &bits,
                sizeof(bits));
  }
  std::optional<int64_t> Find(DType type, const WeightSource& source) const {
    TensorView tensor;
    tensor.data = bytes_.data() + 1;
    tensor.type = type;
    tensor.shape = {2, 3, 4};
    return FirstNotFinite(tensor, source);
  }

 private:
  std::vector<char> bytes_;
};

WeightSource Rows(int64_t offset) {
  WeightSource source;
  source.offset = offset;
  source.rows = 3;
  source.cols = 4;
  source.row_stride = 4;
  return source;
}

WeightSource Transposed(int64_t offset) {
  WeightSource source;
  source.offset = offset;
  source.rows = 4;
  source.cols = 3;
  source.row_stride = 1;
  source.col_stride = 4;
  return source;
}

TEST(Finite, EveryElementOfThePartIsSeenAndNoneBeside) {
  for (int64_t element = 0; element < 24; ++element) {
    Part<uint16_t> part;
    part.Set(element, 0x7fc0);
    for (const int64_t offset : {0, 12}) {
      const bool inside = element / 12 == offset / 12;
      for (const WeightSource& source : {Rows(offset), Transposed(offset)}) {
        const auto found = part.Find(DType::kBF16, source);
        ASSERT_EQ(found.has_value(), inside);
        EXPECT_EQ(found.value_or(element), element);
      }
    }
  }
}

TEST(Finite, AVectorIsSeenWhole) {
  WeightSource vector;
  vector.rows = 24;
  vector.cols = 1;
  vector.row_stride = 1;
  Part<uint32_t> part;
  EXPECT_EQ(part.Find(DType::kF32, vector), std::nullopt);
  part.Set(23, std::bit_cast<uint32_t>(-std::numeric_limits<float>::infinity()));
  EXPECT_EQ(part.Find(DType::kF32, vector), 23);
}

TEST(Finite, TheLargestOfEachTypeAreFinite) {
  Part<uint16_t> half;
  half.Set(3, 0xfbff);
  EXPECT_EQ(half.Find(DType::kF16, Rows(0)), std::nullopt);
  half.Set(3, 0xfc00);
  EXPECT_EQ(half.Find(DType::kF16, Rows(0)), 3);
  Part<uint16_t> brain;
  brain.Set(3, 0xff7f);
  EXPECT_EQ(brain.Find(DType::kBF16, Rows(0)), std::nullopt);
  brain.Set(3, 0xff80);
  EXPECT_EQ(brain.Find(DType::kBF16, Rows(0)), 3);
  Part<uint32_t> single;
  single.Set(3, 0x7f7fffff);
  EXPECT_EQ(single.Find(DType::kF32, Rows(0)), std::nullopt);
  single.Set(3, 0x7f800001);
  EXPECT_EQ(single.Find(DType::kF32, Rows(0)), 3);
}

TEST(Finite, WeightsThatAreNoNumbersAreRefusedByName) {
  const std::string expert = "model.layers.1.mlp.experts.1.up_proj.weight";
  for (const char* name : {"model.norm.weight", expert.c_str()}) {
    FileTensors tensors = GoldenTensors("qwen3_moe-mixed");
    std::string& bytes = tensors.at(name).bytes;
    bytes[bytes.size() - 2] = '\xff';  // both types keep the exponent in the last two bytes
    bytes[bytes.size() - 1] = '\xff';
    TempFolder folder;
    folder.Write("config.json", GoldenConfig("qwen3_moe-mixed").dump());
    folder.Write("model.safetensors", FileOf(tensors));
    const auto checkpoint = Checkpoint::Open(folder.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const ModelConfig& config = (*checkpoint)->config();
    const auto loaded = LoadWeights(**checkpoint, config, AllExperts(config), FakeDevice(), {},
                                    Compute::kExact, nullptr);
    ASSERT_FALSE(loaded.ok());
    EXPECT_THAT(std::string(loaded.status().message()),
                HasSubstr(std::string("model.safetensors: ") + name + " holds NaN or infinity"));
  }
}

}  // namespace
}  // namespace ballast
