#include "server/expert_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/request.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Three layers, the first dense; four experts on two ranks.
ModelInfo Info() {
  ModelInfo info;
  info.ranks = 2;
  info.config.layers = 3;
  info.config.experts = 4;
  info.config.is_moe = {false, true, true};
  return info;
}

v1::Placement Placed(uint32_t layer, uint32_t slots_per_rank, std::vector<int> experts) {
  v1::Placement placement;
  placement.set_ranks(2);
  v1::LayerPlacement& message = *placement.add_layers();
  message.set_layer(layer);
  message.set_slots_per_rank(slots_per_rank);
  message.mutable_slot_expert()->Add(experts.begin(), experts.end());
  return placement;
}

std::string FieldOf(const absl::Status& status) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  const auto field = status.GetPayload(kFieldPayload);
  EXPECT_THAT(status.ToString(), HasSubstr("expected"));
  return field.has_value() ? std::string(*field) : "";
}

std::string RefusedField(const v1::Placement& placement) {
  return FieldOf(ToPlacementRequest(placement, 0, false, Info()).status());
}

TEST(ExpertConvert, LayersThatAreNotNamedStayEmpty) {
  const auto request = ToPlacementRequest(Placed(2, 3, {0, 1, -1, 2, 3, 0}), 7, true, Info());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->expected_version, 7u);
  EXPECT_TRUE(request->dry_run);
  ASSERT_EQ(request->layers.size(), 3u);
  EXPECT_THAT(request->layers[1].slot_expert, IsEmpty());
  EXPECT_EQ(request->layers[2].ranks, 2);
  EXPECT_EQ(request->layers[2].slots_per_rank, 3);
  EXPECT_THAT(request->layers[2].slot_expert, ElementsAre(0, 1, -1, 2, 3, 0));
}

TEST(ExpertConvert, APlacementThatCannotServeIsRefusedByItsField) {
  v1::Placement ranks = Placed(1, 2, {0, 1, 2, 3});
  ranks.set_ranks(4);
  EXPECT_EQ(RefusedField(ranks), "placement.ranks");
  EXPECT_EQ(RefusedField(v1::Placement()), "placement.ranks");
  v1::Placement none;
  none.set_ranks(2);
  EXPECT_EQ(RefusedField(none), "placement.layers");
  EXPECT_EQ(RefusedField(Placed(0, 2, {0, 1, 2, 3})), "placement.layers[0].layer");  // dense
  EXPECT_EQ(RefusedField(Placed(3, 2, {0, 1, 2, 3})), "placement.layers[0].layer");
  v1::Placement twice = Placed(1, 2, {0, 1, 2, 3});
  *twice.add_layers() = twice.layers(0);
  EXPECT_EQ(RefusedField(twice), "placement.layers[1].layer");
  for (const v1::Placement& placement :
       {Placed(1, 3, {0, 1, 2, 3}), Placed(1, 0, {}), Placed(1, 4'000'000'000, {0, 1, 2, 3}),
        Placed(1, 2, {0, 0, 2, 3}), Placed(1, 2, {0, 1, 2, 2}), Placed(1, 2, {0, 1, 2, 4}),
        Placed(1, 2, {0, 1, 2, -2}), Placed(1, 2, {0, 1, 2, -1})}) {
    EXPECT_EQ(RefusedField(placement), "placement.layers[0].slot_expert")
        << placement.DebugString();
  }
}

TEST(ExpertConvert, RefusalsNameLayerRankAndExpert) {
  const auto status = ToPlacementRequest(Placed(1, 2, {0, 1, 2, 2}), 0, false, Info()).status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("placement.layers[0].slot_expert: layer 1, rank 1: found expert 2 twice"));
}

TEST(ExpertConvert, APlacementGoesOutAsItMayComeIn) {
  PlacementState state;
  state.version = 5;
  state.layers = {{}, {2, 2, {0, 1, 2, 3}}, {2, 3, {0, 1, -1, 2, 3, 0}}};
  const v1::Placement message = ToMessage(state, Info().config);
  EXPECT_EQ(message.version(), 5u);
  EXPECT_EQ(message.ranks(), 2u);
  ASSERT_EQ(message.layers_size(), 2);
  EXPECT_EQ(message.layers(1).layer(), 2u);
  const auto request = ToPlacementRequest(message, 0, false, Info());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->layers[2].slot_expert, state.layers[2].slot_expert);
}

TEST(ExpertConvert, LoadGoesOutWhole) {
  WindowLoad window;
  window.seconds = 2.5;
  window.load.placement_version = 3;
  window.load.steps = 4;
  window.load.tokens = 5;
  window.load.slot_moves = 6;
  window.load.layers = {{1, {7, 3}, {6, 4}}};
  window.load.rank_speed = {1, 0.5};
  window.load.rank_wait_seconds = {0.25, 0};
  const v1::ExpertLoad message = ToMessage(window, {true, "assign"});
  EXPECT_EQ(message.mode(), "assign");
  EXPECT_TRUE(message.paused());
  EXPECT_EQ(message.window_s(), 2.5);
  EXPECT_EQ(message.placement_version(), 3u);
  EXPECT_EQ(message.steps(), 4u);
  EXPECT_EQ(message.tokens(), 5u);
  EXPECT_EQ(message.slot_moves(), 6u);
  ASSERT_EQ(message.layers_size(), 1);
  EXPECT_EQ(message.layers(0).layer(), 1u);
  EXPECT_THAT(message.layers(0).expert_rows(), ElementsAre(7, 3));
  EXPECT_THAT(message.layers(0).rank_rows(), ElementsAre(6, 4));
  EXPECT_THAT(message.rank_speed(), ElementsAre(1, 0.5));
  EXPECT_THAT(message.rank_wait_s(), ElementsAre(0.25, 0));
}

TEST(ExpertConvert, SecondsAreFiniteAndInRange) {
  EXPECT_TRUE(CheckSeconds(0, 10, "window_s").ok());
  EXPECT_TRUE(CheckSeconds(10, 10, "window_s").ok());
  for (const double seconds : {-0.5, 10.5, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(FieldOf(CheckSeconds(seconds, 10, "window_s")), "window_s") << seconds;
  }
}

}  // namespace
}  // namespace ballast
