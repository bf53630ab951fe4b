#include "engine/initial_placement.h"

#include <cstdio>
#include <fstream>

#include "engine/prepare.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// 32 experts in layers 1 to 5 of 6.
EngineOptions Options() {
  EngineOptions options;
  options.model = std::string(BALLAST_SOURCE_DIR) + "/models/ballast-mini";
  options.ranks = 4;
  return options;
}

TEST(InitialPlacement, IsEvenUnlessAFileSaysOtherwise) {
  const auto even = ExportInitialPlacement(Options(), PlacementFormat::kYaml);
  ASSERT_TRUE(even.ok()) << even.status();
  EXPECT_THAT(even->text, HasSubstr("slots_per_rank: 8\n"));
  EXPECT_THAT(even->text, HasSubstr("  5:\n    - [0, 1, 2, 3, 4, 5, 6, 7]\n"));
  EXPECT_THAT(even->warnings, IsEmpty());

  EngineOptions options = Options();
  options.placement = testing::TempDir() + "initial_placement.yaml";
  options.slots_per_rank = 9;
  std::ofstream(options.placement) << "num_slots: 32\ninitial_global_assignments: {7: []}\n";
  const auto read = ExportInitialPlacement(options, PlacementFormat::kYaml);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->text, HasSubstr("slots_per_rank: 9\n"));
  EXPECT_EQ(read->warnings.size(), 2u);  // layer 7, and layers 1 to 5
  std::remove(options.placement.c_str());
}

TEST(InitialPlacement, IsWhatAModelIsPreparedWith) {
  EngineOptions options = Options();
  options.placement = testing::TempDir() + "prepared_placement.yaml";
  std::ofstream(options.placement) << "layers: {2: {pin: {31: 0}, replicas: {0: 4}}}";
  const auto model = PrepareModel(options);
  std::remove(options.placement.c_str());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->placement[0].slot_expert, IsEmpty());  // a dense layer
  EXPECT_EQ(model->placement[1].slot_expert, EvenPlacement(32, 4, 9).slot_expert);
  EXPECT_EQ(ExpertsOfRank(model->placement[2], 0).front(), 31);
  const EngineOptions even = Options();
  EXPECT_LT(PrepareModel(even)->plan.weights_bytes, model->plan.weights_bytes);
}

TEST(InitialPlacement, NamesTheFileThatCannotBeRead) {
  EngineOptions options = Options();
  options.placement = "/nowhere/placement.yaml";
  EXPECT_THAT(
      std::string(ExportInitialPlacement(options, PlacementFormat::kYaml).status().message()),
      HasSubstr("/nowhere/placement.yaml"));
  options.placement = testing::TempDir();
  EXPECT_FALSE(ExportInitialPlacement(options, PlacementFormat::kYaml).ok());
}

}  // namespace
}  // namespace ballast
