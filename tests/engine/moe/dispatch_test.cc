#include "engine/moe/dispatch.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

TEST(CountRows, CountsEveryExpert) {
  std::vector<int32_t> counts = {7, 7, 7};
  CountRows(std::vector<int32_t>{2, 0, 2}, counts);
  EXPECT_THAT(counts, ElementsAre(1, 0, 2));
}

TEST(PlanDispatch, OneRankSortsItsRowsBySlot) {
  LayerPlacement placement{1, 3, {2, 0, 1}};  // slot 0 holds expert 2, ...
  Replicas replicas;
  BuildReplicas(placement, 3, {}, replicas);
  const std::vector<int32_t> ids = {2, 0, 1, 2, 0, 2};
  const RowSplit split{3, {3, 2, 1}};
  DispatchScratch scratch;
  DispatchPlan plan;
  PlanDispatch(0, ids, 2, replicas, {}, split, scratch, plan);
  EXPECT_THAT(plan.choice, ElementsAre(0, 3, 5, 1, 4, 2));
  EXPECT_THAT(plan.give.rows, ElementsAre(0, 1, 2, 0, 2, 1));
  EXPECT_THAT(plan.target_begin, ElementsAre(0, 3, 5, 6));
  EXPECT_THAT(plan.order, ElementsAre(0, 1, 2, 3, 4, 5));
}

// A random layer on several ranks, with replicas and spills.
struct World {
  int ranks, experts, k;
  Replicas replicas;
  std::vector<std::vector<int32_t>> ids;  // [ranks][tokens * k]
  Assignment assignment;
  RowSplit split;
};

World RandomWorld(std::mt19937& random) {
  World w;
  w.ranks = 1 + static_cast<int>(random() % 5);
  w.experts = w.ranks + static_cast<int>(random() % 12);
  w.k = 1 + static_cast<int>(random() % 3);
  LayerPlacement placement = EvenPlacement(w.experts, w.ranks);
  BuildReplicas(placement, w.experts, {}, w.replicas);
  std::vector<int32_t> counts;
  for (int rank = 0; rank < w.ranks; ++rank) {
    auto& ids = w.ids.emplace_back(w.k * (random() % 30));
    for (int32_t& id : ids) {
      const auto e = static_cast<int32_t>(random() % w.experts);
      id = random() % 2 == 0 ? e : e / 3;  // skewed
    }
    std::vector<int32_t> own(w.experts);
    CountRows(ids, own);
    counts.insert(counts.end(), own.begin(), own.end());
  }
  CostParameters costs;
  costs.mode = BalanceMode::kSpill;
  costs.max_imports = 2;
  costs.import_cost = 1;
  AssignScratch scratch;
  Assign(counts, w.replicas, costs, scratch, w.assignment);
  SplitScratch split_scratch;
  Split(counts, w.replicas, w.assignment, split_scratch, w.split);
  return w;
}

int ExpertOf(const World& w, int target) {
  return target < w.replicas.slots() ? w.replicas.slot_expert[target]
                                     : w.assignment.spills[target - w.replicas.slots()].expert;
}

// Plays the exchange with (rank, token) as the hidden state and checks that every choice is
// answered by the right expert for the right token.
TEST(PlanDispatch, EveryChoiceIsAnsweredByItsExpertWhereverItRuns) {
  std::mt19937 random(11);
  DispatchScratch scratch;  // reused, as the step loop does
  int spills = 0;
  for (int round = 0; round < 300; ++round) {
    const World w = RandomWorld(random);
    spills += static_cast<int>(w.assignment.spills.size());
    std::vector<DispatchPlan> plans(w.ranks);
    for (int r = 0; r < w.ranks; ++r) {
      PlanDispatch(r, w.ids[r], w.k, w.replicas, w.assignment.spills, w.split, scratch, plans[r]);
    }
    using Row = std::pair<int, int32_t>;  // rank and token
    const auto exchange = [&](const std::vector<std::vector<Row>>& matrix, auto lists, int to) {
      std::vector<Row> received;
      for (int source = 0; source < w.ranks; ++source) {
        const RowLists& give = lists(plans[source]);
        for (int32_t i = give.begin[to]; i < give.begin[to + 1]; ++i) {
          received.push_back(matrix[source][give.rows[i]]);
        }
      }
      return received;
    };
    std::vector<std::vector<Row>> x(w.ranks);
    for (int r = 0; r < w.ranks; ++r) {
      for (size_t t = 0; t < w.ids[r].size() / w.k; ++t) x[r].emplace_back(r, t);
    }
    // y[rank][row]: the row that was computed, and by which expert.
    std::vector<std::vector<Row>> y(w.ranks);
    std::vector<std::vector<int>> by(w.ranks);
    for (int r = 0; r < w.ranks; ++r) {
      const auto received = exchange(
          x, [](const DispatchPlan& p) -> const RowLists& { return p.give; }, r);
      ASSERT_EQ(received.size(), plans[r].order.size());
      for (const int32_t at : plans[r].order) y[r].push_back(received[at]);
      for (size_t t = 0; t < plans[r].targets.size(); ++t) {
        by[r].insert(by[r].end(), plans[r].target_begin[t + 1] - plans[r].target_begin[t],
                     ExpertOf(w, plans[r].targets[t]));
      }
    }
    for (int r = 0; r < w.ranks; ++r) {
      std::vector<std::pair<Row, int>> answers;
      for (int source = 0; source < w.ranks; ++source) {
        const RowLists& back = plans[source].back;
        for (int32_t i = back.begin[r]; i < back.begin[r + 1]; ++i) {
          answers.emplace_back(y[source][back.rows[i]], by[source][back.rows[i]]);
        }
      }
      ASSERT_EQ(answers.size(), w.ids[r].size());
      std::vector<bool> seen(answers.size(), false);
      for (size_t i = 0; i < answers.size(); ++i) {
        const int32_t choice = plans[r].choice[i];
        EXPECT_EQ(answers[i].first, Row(r, choice / w.k));
        EXPECT_EQ(answers[i].second, w.ids[r][choice]);
        EXPECT_FALSE(seen[choice]);
        seen[choice] = true;
      }
    }
  }
  EXPECT_GT(spills, 0);
}

}  // namespace
}  // namespace ballast
