#include "engine/share.h"

#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

TEST(ShareTokens, NobodyGetsMoreThanHeWants) {
  EXPECT_THAT(ShareTokens(std::vector<int64_t>{3, 1000, 0}, 100), ElementsAre(3, 97, 0));
}

TEST(ShareTokens, WhatIsShortIsSharedEvenlyTheLowerRankFirst) {
  EXPECT_THAT(ShareTokens(std::vector<int64_t>{500, 500, 500}, 100), ElementsAre(34, 33, 33));
  EXPECT_THAT(ShareTokens(std::vector<int64_t>{5, 5, 5, 5}, 2), ElementsAre(1, 1, 0, 0));
}

TEST(ShareTokens, UsesTheWholeBudgetWhileAnyoneWants) {
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::vector<int64_t> demand(1 + random() % 8);
    for (int64_t& d : demand) d = random() % 3 == 0 ? 0 : random() % 400;
    const auto budget = static_cast<int32_t>(1 + random() % 600);
    const std::vector<int32_t> share = ShareTokens(demand, budget);
    const int64_t wanted = std::accumulate(demand.begin(), demand.end(), int64_t{0});
    EXPECT_EQ(std::accumulate(share.begin(), share.end(), int64_t{0}),
              std::min<int64_t>(wanted, budget));
    for (size_t r = 0; r < demand.size(); ++r) EXPECT_LE(share[r], demand[r]);
  }
}

std::shared_ptr<Sequence> Pending(int tokens) {
  auto sequence = std::make_shared<Sequence>();
  sequence->tokens.resize(tokens);
  return sequence;
}

TEST(ChooseRank, TakesTheRankWithTheFewestTokensToCompute) {
  std::vector<Queues> queues(3);
  const std::vector<BlockPool> pools(3, BlockPool(8));
  queues[0].running = {Pending(10)};
  queues[1].waiting = {Pending(2)};
  queues[2].running = {Pending(3)};
  const std::vector<int32_t> tokens(20, 7);
  EXPECT_EQ(ChooseRank(tokens, "", true, queues, pools), 1);
}

TEST(ChooseRank, ACachedPrefixCountsAsTokensSaved) {
  std::vector<Queues> queues(2);
  std::vector<BlockPool> pools(2, BlockPool(8));
  const std::vector<int32_t> tokens(20, 7);
  std::vector<int32_t> table;
  pools[1].Take(1, table);
  pools[1].Insert(table[0], BlockPool::kNoLink, "", std::span(tokens).first(kKvBlockTokens));
  pools[1].Release(table);
  EXPECT_EQ(ChooseRank(tokens, "", true, queues, pools), 1);
  EXPECT_EQ(ChooseRank(tokens, "", false, queues, pools), 0);
  queues[1].running = {Pending(17)};
  EXPECT_EQ(ChooseRank(tokens, "", true, queues, pools), 0);
}

TEST(ChooseRank, ATieGoesToTheRankWithMoreBlocks) {
  const std::vector<Queues> queues(2);
  const std::vector<BlockPool> pools = {BlockPool(4), BlockPool(8)};
  EXPECT_EQ(ChooseRank(std::vector<int32_t>(5, 7), "", true, queues, pools), 1);
}

}  // namespace
}  // namespace ballast
