#include "engine/moe/placement_file.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A dense layer, then two of four experts, on two ranks.
PlacementShape Shape(int slots_per_rank = 0) { return {3, {1, 2}, 4, 2, slots_per_rank}; }

ModelPlacement Parsed(const std::string& text, const PlacementShape& shape = Shape()) {
  auto model = ParsePlacement(text, "f", shape);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {std::vector<LayerPlacement>(static_cast<size_t>(shape.layers)), {}};
  return *std::move(model);
}

std::string Message(const std::string& text, const PlacementShape& shape = Shape()) {
  const auto model = ParsePlacement(text, "f", shape);
  EXPECT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(model.status().message());
}

TEST(EvenModelPlacement, LeavesDenseLayersWithoutSlots) {
  const auto model = EvenModelPlacement(Shape(3));
  ASSERT_TRUE(model.ok());
  EXPECT_THAT(model->layers[0].slot_expert, IsEmpty());
  EXPECT_THAT(model->layers[2].slot_expert, ElementsAre(0, 1, 2, 3, 0, 1));
  EXPECT_THAT(std::string(EvenModelPlacement(Shape(1)).status().message()),
              HasSubstr("--slots-per-rank: layer 1: found expert 2 on no rank"));
}

TEST(ParsePlacement, SaysWhichKeysItKnows) {
  EXPECT_THAT(Message("{\"experts\": 1}"),
              HasSubstr("f: found a map with experts, expected a map"));
  EXPECT_THAT(Message(""), HasSubstr("f: found nothing, expected a map"));
  EXPECT_THAT(Message("[1]"), HasSubstr("f: found a list, expected a map"));
  EXPECT_THAT(Message("\x80\x02"), HasSubstr("f:"));
}

TEST(OwnPlacement, TakesTheSlotsOfEveryRank) {
  const ModelPlacement model = Parsed("layers:\n  1: [[3, -1, 0], [1, 2]]\n");
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(3, -1, 0, 1, 2, -1));
  // Layers that are not named are even, in as many slots.
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, 2, 3, 0, 1));
  EXPECT_THAT(model.warnings, IsEmpty());
}

TEST(OwnPlacement, PinsExpertsAndSpreadsTheOthers) {
  const ModelPlacement model =
      Parsed("layers:\n  all: {pin: {3: 0}}\n  2: {pin: {0: [0, 1]}, replicas: {1: 2}}\n");
  EXPECT_EQ(model.layers[1].slots_per_rank, 3);  // as layer 2 needs
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(3, 1, -1, 0, 2, -1));
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, 2, 0, 1, 3));
}

TEST(OwnPlacement, FindsRoomForReplicasWheneverThereIsSome) {
  // Expert 3 must stand on all three ranks, although 0 and 1 fill the first one nearly.
  PlacementShape shape{1, {0}, 5, 3, 3};
  const ModelPlacement model =
      Parsed("layers: {0: {pin: {0: 0, 1: 0}, replicas: {3: 3, 4: 2}}}", shape);
  EXPECT_TRUE(ValidatePlacement(model.layers[0], 0, 5, 3).ok());
  EXPECT_EQ(std::count(model.layers[0].slot_expert.begin(), model.layers[0].slot_expert.end(), 3),
            3);
}

TEST(OwnPlacement, NeedsNoMoreSlotsThanPinsAndReplicasTake) {
  // 2 pinned copies on rank 0, 3 + 2 replicas, 1 single: 8 copies on 3 ranks.
  const PlacementShape shape{1, {0}, 5, 3, 0};
  const ModelPlacement model =
      Parsed("layers: {0: {pin: {0: 0, 1: 0}, replicas: {2: 3, 3: 2}}}", shape);
  EXPECT_EQ(model.layers[0].slots_per_rank, 3);
}

TEST(OwnPlacement, SlotsPerRankComeFromOptionOrFileOrNeed) {
  EXPECT_EQ(Parsed("slots_per_rank: 3").layers[1].slots_per_rank, 3);
  EXPECT_EQ(Parsed("slots_per_rank: 3", Shape(4)).layers[1].slots_per_rank, 4);
  EXPECT_EQ(Parsed("layers:").layers[1].slots_per_rank, 2);
  EXPECT_THAT(Message("slots_per_rank: 3", Shape(2)),
              HasSubstr("f: found 3 slots per rank, expected at most 2 (--slots-per-rank)"));
  EXPECT_THAT(Message("slots_per_rank: 1"), HasSubstr("2 slots are too few for 4 experts"));
  EXPECT_THAT(Message("layers: {1: {pin: {0: [0, 1]}}}", Shape(2)),
              HasSubstr("f: layer 1: found 2 slots per rank, expected 3 at least"));
}

TEST(OwnPlacement, ErrorsNameLayerRankAndExpert) {
  EXPECT_EQ(Message("layers: {1: [[0, 1], [2, 4]]}"),
            "f: layer 1, rank 1: found expert 4, expected -1 to 3");
  EXPECT_EQ(Message("layers: {1: [[0, 1], [2, 1.5]]}"),
            "f: layer 1, rank 1: found expert 1.5, expected -1 to 3");
  EXPECT_EQ(Message("layers: {1: [[0, x], [2, 3]]}"),
            "f: layer 1, rank 0: found \"x\", expected a list of expert numbers");
  EXPECT_EQ(Message("layers: {2: [[0, 1, 0], [2, 3]]}"),
            "f: layer 2, rank 0: found expert 0 twice, expected it once at most");
  EXPECT_THAT(Message("layers: {2: [[0, 1], [2]]}"),
              HasSubstr("f: layer 2: found expert 3 on no rank"));
  EXPECT_THAT(Message("layers: {2: [[0, 1, 2, 3]]}"),
              HasSubstr("f: layer 2: found 1 lists, expected a list of experts for each of 2"));
  EXPECT_THAT(Message("layers: {2: [0, 1, 2, 3]}"), HasSubstr("found a list of single values"));
  EXPECT_EQ(Message("slots_per_rank: 2\nlayers: {2: [[0, 1, 2], [3]]}"),
            "f: layer 2, rank 0: found 3 slots, expected 2 at most");
}

TEST(OwnPlacement, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Message("layers: {}\nslot: 1"),
            "f: keys: found slot, expected ranks, slots_per_rank and layers");
  EXPECT_EQ(Message("ranks: 4\nlayers: {}"), "f: ranks: found 4, expected 2");
  EXPECT_EQ(Message("layers: {0: [[0, 1], [2, 3]]}"),
            "f: layer 0: found experts, expected none: it is dense");
  EXPECT_THAT(Message("layers: {3: {}}"), HasSubstr("layers: found 3, expected a whole number"));
  EXPECT_THAT(Message("layers: [1]"), HasSubstr("layers: found a list, expected a map"));
  EXPECT_THAT(Message("layers: {1: 5}"), HasSubstr("layer 1: found 5, expected a list of experts"));
  EXPECT_THAT(Message("layers: {1: {pins: {}}}"), HasSubstr("the key pins, expected pin or"));
  EXPECT_THAT(Message("layers: {1: {pin: [1]}}"), HasSubstr("layer 1, pin: found a list"));
  EXPECT_THAT(Message("layers: {1: {pin: {4: 0}}}"), HasSubstr("layer 1, pin: found 4"));
  EXPECT_EQ(Message("layers: {1: {pin: {3: 2}}}"),
            "f: layer 1, pin, expert 3: found 2, expected a whole number, 0 to 1");
  EXPECT_EQ(Message("layers: {1: {pin: {3: [1, 1]}}}"),
            "f: layer 1, pin, expert 3: found rank 1 twice, expected it once");
  EXPECT_THAT(Message("layers: {1: {pin: {3: []}}}"), HasSubstr("a rank or a list of ranks"));
  EXPECT_THAT(Message("layers: {1: {replicas: {3: 3}}}"), HasSubstr("found 3, expected a whole"));
  EXPECT_THAT(Message("layers: {1: {pin: {3: 0}, replicas: {3: 2}}}"), HasSubstr("pinned too"));
  EXPECT_THAT(Message("slots_per_rank: 100000000000"), HasSubstr("1 to 4096"));
}

TEST(OwnPlacement, RefusesWhatIsSaidTwice) {
  EXPECT_EQ(Message("layers: {1: {pin: {3: 0, 03: 1}}}"),
            "f: layer 1, pin, expert 3: found it twice, expected it once");
  EXPECT_EQ(Message("layers: {1: {replicas: {3: 1, 03: 2}}}"),
            "f: layer 1, replicas, expert 3: found it twice, expected it once");
  EXPECT_EQ(Message("layers: {1: {}, 01: {}}"), "f: layer 1: found it twice, expected it once");
}

TEST(TensorRtLlmPlacement, TakesYamlAndJson) {
  for (const char* text : {"initial_global_assignments:\n  1: [3, 2, 1, 0]\n  2: [0, 1, 2, 3]\n"
                           "layer_updates_per_iter: 0\nnum_slots: 4\n",
                           R"({"num_slots": 4, "initial_global_assignments":
                               {"1": [3, 2, 1, 0], "2": [0, 1, 2, 3]}})"}) {
    const ModelPlacement model = Parsed(text);
    EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(3, 2, 1, 0));
    EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(model.warnings, IsEmpty());
  }
}

TEST(TensorRtLlmPlacement, FoldsWhatARankHoldsTwiceWithAWarning) {
  const ModelPlacement model = Parsed(
      "num_slots: 6\ninitial_global_assignments: {1: [0, 1, 0, 2, 3, 3], 2: [0, 1, 2, 3, 0, 1]}");
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(0, 1, -1, 2, 3, -1));
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, 2, 3, 0, 1));
  EXPECT_THAT(
      model.warnings,
      ElementsAre("f: left 2 slots empty that repeat an expert of their rank, in layers 1"));
}

TEST(TensorRtLlmPlacement, MissingLayersAreEvenWithAWarning) {
  const ModelPlacement model = Parsed(
      "num_slots: 6\ninitial_global_assignments:\n"
      "  1: [3, 2, 1, 0, 1, 2]\n  61: [1, 2]\n");
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, 2, 3, 0, 1));
  EXPECT_THAT(model.warnings,
              ElementsAre(HasSubstr("ignored layers 61"), HasSubstr("says nothing of layers 2;")));
  EXPECT_THAT(Parsed("num_slots: 6\nlayer_updates_per_iter: 2").layers[1].slot_expert,
              ElementsAre(0, 1, 2, 3, 0, 1));
}

TEST(TensorRtLlmPlacement, MoreSlotsThanInTheFileStayEmpty) {
  const ModelPlacement model = Parsed("initial_global_assignments: {1: [3, 2, 1, 0]}", Shape(3));
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(3, 2, -1, 1, 0, -1));
  EXPECT_THAT(Message("num_slots: 6\ninitial_global_assignments:", Shape(2)),
              HasSubstr("found 3 slots per rank, expected at most 2"));
}

TEST(TensorRtLlmPlacement, ErrorsNameLayerRankAndExpert) {
  const auto of = [](const std::string& layer) {
    return Message("num_slots: 4\ninitial_global_assignments: {2: " + layer + "}");
  };
  EXPECT_EQ(of("[0, 1, 2, 4]"), "f: layer 2, rank 1: found expert 4, expected 0 to 3");
  EXPECT_EQ(of("[0, -1, 2, 3]"), "f: layer 2, rank 0: found expert -1, expected 0 to 3");
  EXPECT_THAT(of("[0, 1, 2, 2]"), HasSubstr("f: layer 2: found expert 3 on no rank"));
  EXPECT_EQ(of("[0, 1, 2]"), "f: layer 2: found 3 slots, expected a list of 4 expert numbers");
  EXPECT_EQ(of("[0, 1, 2, a]"), "f: layer 2: found \"a\", expected a list of 4 expert numbers");
  EXPECT_EQ(of("7"), "f: layer 2: found 7, expected a list of 4 expert numbers");
  EXPECT_EQ(Message("num_slots: 5\ninitial_global_assignments: {}"),
            "f: num_slots: found 5 slots, expected a multiple of 2 ranks");
  EXPECT_EQ(Message("initial_global_assignments: {1: [0, 1, 2, 3, 0]}"),
            "f: layer 1: found 5 slots, expected a multiple of 2 ranks");
  EXPECT_THAT(Message("num_slots: x"), HasSubstr("f: num_slots: found x, expected a whole number"));
  EXPECT_THAT(Message("initial_global_assignments: [[0, 1]]"), HasSubstr("a map from layer"));
  EXPECT_THAT(Message("initial_global_assignments: {a: [0, 1]}"), HasSubstr("found a, expected"));
  EXPECT_THAT(Message("num_slots: 4\ninitial_global_assignments: {1: [0,1,2,3], 01: [0,1,2,3]}"),
              HasSubstr("layer 1: found it twice"));
}

TEST(SglangPlacement, CountsDenseLayersToo) {
  const ModelPlacement model = Parsed(
      R"({"physical_to_logical_map": [[9, 9], [3, 2, 1, 0], [0, 1, 1, 0]]})", {3, {1}, 4, 2, 0});
  EXPECT_THAT(model.layers[0].slot_expert, IsEmpty());
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(model.layers[2].slot_expert, IsEmpty());
  EXPECT_THAT(model.warnings, IsEmpty());
}

TEST(SglangPlacement, FoldsWhatARankHoldsTwiceWithAWarning) {
  const ModelPlacement model =
      Parsed(R"({"physical_to_logical_map": [[], [0, 0, 1, 2, 3, 1], [0, 1, 1, 2, 2, 3]]})");
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(0, -1, 1, 2, 3, 1));
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(0, 1, -1, 2, -1, 3));
  EXPECT_THAT(model.warnings, ElementsAre(HasSubstr("left 3 slots empty")));
}

TEST(SglangPlacement, ErrorsNameLayerRankAndExpert) {
  const auto of = [](const std::string& layer) {
    return Message(R"({"physical_to_logical_map": [[], [0, 1, 2, 3], )" + layer + "]}");
  };
  EXPECT_EQ(of("[0, 1, 9, 3]"), "f: layer 2, rank 1: found expert 9, expected 0 to 3");
  EXPECT_THAT(of("[0, 1, 1, 3]"), HasSubstr("layer 2: found expert 2 on no rank"));
  EXPECT_THAT(of("[0, 1]"), HasSubstr("layer 2: found 2 slots, expected a list of 4 expert"));
  EXPECT_THAT(of("{}"), HasSubstr("layer 2: found a map"));
  EXPECT_THAT(Message(R"({"physical_to_logical_map": [[0, 1, 2, 3], [0, 1, 2, 3]]})"),
              HasSubstr("physical_to_logical_map: found 2 lists, expected a list for each of the 3 "
                        "layers, dense ones included"));
  EXPECT_THAT(Message(R"({"physical_to_logical_map": 3})"), HasSubstr("found 3, expected a list"));
  EXPECT_THAT(Message(R"({"physical_to_logical_map": [[], [], [0]]})"),
              HasSubstr("layer 1: found 0 slots, expected a multiple of 2 ranks"));
}

TEST(SglangCounts, BecomeAPlacementThatFollowsTheLoad) {
  const std::string counts = R"({"logical_count": [[0,0,0,0], [9,1,1,1], [1,1,1,9]]})";
  const ModelPlacement model = Parsed(counts, Shape(3));
  EXPECT_THAT(model.layers[1].slot_expert, ElementsAre(0, 2, 1, 0, 3, 1));
  EXPECT_THAT(model.layers[2].slot_expert, ElementsAre(3, 1, 0, 3, 2, 0));
  EXPECT_EQ(Parsed(counts).layers[1].slots_per_rank, 2);
}

TEST(SglangCounts, AreSummedOverSteps) {
  const ModelPlacement sum = Parsed(R"({"logical_count": [[[0,0,0,0], [9,1,1,1], [1,1,1,9]],
                                                          [[0,0,0,0], [0,9,0,0], [1,0,0,9]]]})");
  const ModelPlacement one = Parsed(R"({"logical_count": [[0,0,0,0], [9,10,1,1], [2,1,1,18]]})");
  EXPECT_EQ(sum.layers[1].slot_expert, one.layers[1].slot_expert);
  EXPECT_EQ(sum.layers[2].slot_expert, one.layers[2].slot_expert);
}

TEST(SglangCounts, ErrorsNameStepLayerAndExpert) {
  const auto of = [](const std::string& layer) {
    return Message(R"({"logical_count": [[0,0,0,0], )" + layer + ", [1,1,1,1]]}");
  };
  EXPECT_EQ(of("[1, -1, 1, 1]"), "f: layer 1, expert 1: found count -1, expected 0 to 1e+12");
  EXPECT_THAT(of("[1, 1e300, 1, 1]"), HasSubstr("layer 1, expert 1: found count 1e+300"));
  EXPECT_EQ(of("[1, NaN, 1, 1]"),
            "f: layer 1: found \"NaN\", expected a list of 4 counts, one per expert");
  EXPECT_THAT(of("[1, 1]"), HasSubstr("layer 1: found 2 counts, expected a list of 4"));
  EXPECT_THAT(Message(R"({"logical_count": [[1,1,1,1]]})"), HasSubstr("found 1 lists, expected"));
  EXPECT_THAT(Message(R"({"logical_count": [[[1,1,1,1]]]})"),
              HasSubstr("step 0, logical_count: found 1 lists"));
  EXPECT_THAT(Message(R"({"logical_count": [[0],[1,1,1,1],[1,1,1,1]]})", Shape(1)),
              HasSubstr("found 1 slots per rank, expected 2 at least"));
}

}  // namespace
}  // namespace ballast
