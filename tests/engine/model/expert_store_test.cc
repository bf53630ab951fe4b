#include "engine/model/expert_store.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kWidth = 3;
constexpr int64_t kHidden = 5;

// Two layers of three slots; what expert e of layer l holds begins with the byte 10 * l + e.
class ExpertStoreTest : public testing::Test {
 protected:
  ExpertStoreTest() : device_(*FindCpuDevice("reference")) {
    weights_.layers.resize(2);
    for (int layer = 0; layer < 2; ++layer) {
      for (const int expert : slots_[static_cast<size_t>(layer)]) {
        MlpWeights& slot = weights_.layers[static_cast<size_t>(layer)].moe.slots.emplace_back();
        if (expert >= 0) slot = Filled(layer, expert);
      }
    }
  }
  ~ExpertStoreTest() override {
    for (const auto& [data, bytes] : memory_) device_.release(data, bytes);
  }

  MlpWeights Shape() const {
    MlpWeights shape;
    shape.gate = shape.up = {nullptr, DType::kF32, kWidth, kHidden};
    shape.down = {nullptr, DType::kF32, kHidden, kWidth};
    return shape;
  }
  MlpWeights Filled(int layer, int expert) {
    MlpWeights filled = Shape();
    for (PackedMatrix* matrix : {&filled.gate, &filled.up, &filled.down}) {
      const size_t bytes = device_.packed_bytes(matrix->type, matrix->n, matrix->k);
      matrix->data = device_.allocate({}, bytes);
      memory_.emplace_back(matrix->data, bytes);
    }
    Mark(filled, layer, expert);
    return filled;
  }
  static void Mark(const MlpWeights& weights, int layer, int expert) {
    for (void* data : {weights.gate.data, weights.up.data, weights.down.data}) {
      *static_cast<uint8_t*>(data) = static_cast<uint8_t>(10 * layer + expert);
    }
  }
  int MarkAt(int layer, size_t slot) const {
    const MlpWeights& weights = weights_.layers[static_cast<size_t>(layer)].moe.slots[slot];
    EXPECT_EQ(*static_cast<uint8_t*>(weights.gate.data), *static_cast<uint8_t*>(weights.down.data));
    return *static_cast<uint8_t*>(weights.up.data);
  }
  void Make(int spares) {
    absl::StatusOr<std::unique_ptr<ExpertStore>> store =
        ExpertStore::Create(slots_, spares, BytesOf(Shape(), device_), device_, {}, weights_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // An expert arrives as a move brings it.
  void Bring(int layer, int expert) {
    const absl::StatusOr<MlpWeights> buffer = store_->Reserve(layer, expert, Shape());
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    Mark(*buffer, layer, expert);
  }

  const Device& device_;
  const SlotExperts slots_ = {{0, 1, 2}, {3, -1, 4}};
  std::vector<std::pair<void*, size_t>> memory_;
  ModelWeights weights_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(ExpertStoreTest, FindsWhatStandsHere) {
  Make(0);
  ASSERT_NE(store_->Find(1, 4), nullptr);
  EXPECT_EQ(store_->Find(1, 4), &weights_.layers[1].moe.slots[2]);
  EXPECT_EQ(store_->Find(0, 4), nullptr);
  EXPECT_EQ(store_->Find(1, -1), nullptr);
}

TEST_F(ExpertStoreTest, AnExpertTakesASlotAndTheOldOnesBufferIsSpare) {
  Make(1);
  Bring(0, 7);
  EXPECT_EQ(store_->spares(), 0);
  EXPECT_EQ(MarkAt(0, 1), 1) << "nothing changes before it is adopted";
  ASSERT_TRUE(store_->Adopt(0, std::vector<int32_t>{2, 7, 0}).ok());
  EXPECT_EQ(MarkAt(0, 0), 2);
  EXPECT_EQ(MarkAt(0, 1), 7);
  EXPECT_EQ(MarkAt(0, 2), 0);
  EXPECT_EQ(store_->spares(), 1);
  // The buffer of expert 1 serves another layer's slot that was empty.
  Bring(1, 9);
  ASSERT_TRUE(store_->Adopt(1, std::vector<int32_t>{3, 9, 4}).ok());
  EXPECT_EQ(MarkAt(1, 1), 19);
  EXPECT_EQ(store_->spares(), 0);
}

TEST_F(ExpertStoreTest, AWholeLayerChangesAtOnceAgainAndAgain) {
  Make(3);
  for (int round = 0; round < 5; ++round) {
    const std::vector<int32_t> fresh =
        round % 2 == 0 ? std::vector<int32_t>{4, 5, 6} : std::vector<int32_t>{1, 2, 0};
    for (const int32_t expert : fresh) Bring(0, expert);
    ASSERT_TRUE(store_->Adopt(0, fresh).ok());
    for (size_t slot = 0; slot < 3; ++slot) EXPECT_EQ(MarkAt(0, slot), fresh[slot]);
    EXPECT_EQ(store_->spares(), 3);
  }
}

TEST_F(ExpertStoreTest, WhatHasNotComeCannotBeAdopted) {
  Make(2);
  Bring(1, 0);  // another layer's expert 0 does not count
  const absl::Status status = store_->Adopt(0, std::vector<int32_t>{0, 1, 5});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 0: expert 5"));
  EXPECT_EQ(MarkAt(0, 2), 2);
}

TEST_F(ExpertStoreTest, DroppedMovesGiveTheirBuffersBack) {
  Make(2);
  Bring(0, 5);
  Bring(0, 6);
  EXPECT_EQ(store_->Reserve(0, 7, Shape()).status().code(), absl::StatusCode::kResourceExhausted);
  store_->DropReserved();
  EXPECT_EQ(store_->spares(), 2);
  EXPECT_FALSE(store_->Adopt(0, std::vector<int32_t>{0, 1, 5}).ok());
  Bring(0, 7);
}

TEST_F(ExpertStoreTest, ATooLargeExpertDoesNotFit) {
  Make(2);
  MlpWeights wide = Shape();
  wide.up.n = 100;
  EXPECT_EQ(store_->Reserve(0, 7, wide).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(SpareBuffers, AreTheWidestLayerAndEveryEmptySlotUnlessARankIsAlone) {
  EXPECT_EQ(SpareBuffers({{0, 1}, {}, {0, -1, -1}}, 2), 5);
  EXPECT_EQ(SpareBuffers({{0, 1}, {}, {0, -1, -1}}, 1), 0);
}

}  // namespace
}  // namespace ballast
