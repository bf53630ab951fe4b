// Replanning on real loads (tools/replan_loads.h): an excerpt always, all of them where
// ../shared or BALLAST_SHARED has them.
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "tools/replan_loads.h"

namespace ballast {
namespace {

TEST(ReplanOnRealLoads, MovesFewSlotsToTheBalanceOfAFreshEplbPlacement) {
  const char* shared = std::getenv("BALLAST_SHARED");
  const std::string folder =
      std::string(shared != nullptr ? shared : BALLAST_SOURCE_DIR "/../shared") +
      "/data/loads/esft_tokens/";
  for (const int slots_per_rank : {9, 10}) {
    const std::vector<ReplanCase> cases = ReplanCases(folder, 8, slots_per_rank);
    if (cases.empty()) {
      GTEST_SKIP() << "no token files in " << folder;
    }
    const ReplanOutcome in_domain = MeanOutcome(cases, ReplanCase::kInDomain);
    EXPECT_LE(in_domain.moves, 5);
    EXPECT_GT(in_domain.eplb_moves, 50);
    EXPECT_LE(in_domain.replanned, 1.01 * in_domain.eplb);
    EXPECT_LE(in_domain.replanned, in_domain.before);
    const ReplanOutcome drift = MeanOutcome(cases, ReplanCase::kDrift);
    EXPECT_LE(drift.moves, 13);
    EXPECT_LE(drift.replanned, 1.01 * drift.eplb);
    for (const ReplanCase& of : cases) {
      EXPECT_LE(of.outcome.replanned, of.outcome.even) << of.name;
      EXPECT_LE(of.outcome.replanned, of.outcome.before + 0.005) << of.name;
    }
  }
}

TEST(ReplanOnRealLoads, AFirstReplanOfAnExcerptBeatsTheEvenPlacement) {
  ReplanTask task{ReadRoutedTokens(BALLAST_SOURCE_DIR "/tests/data/loads/esft_law_excerpt.csv")};
  ASSERT_EQ(task.tokens.tokens(), 340u);
  task.step_tokens = 10;  // 17 steps to plan with, 17 to test with
  for (const int slots_per_rank : {9, 10}) {
    const ReplanOutcome outcome = ReplanFirst(task, 8, slots_per_rank);
    EXPECT_GT(outcome.moves, 0);
    EXPECT_LE(outcome.moves, 12);
    EXPECT_LT(outcome.replanned, 0.9 * outcome.even) << slots_per_rank;
  }
}

}  // namespace
}  // namespace ballast
