#include "engine/kv_cache.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kBlock = kKvBlockTokens;

// Tokens of `blocks` full blocks; block i is filled with first + i.
std::vector<int32_t> Tokens(int32_t first, int32_t blocks) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < blocks; ++i) {
    tokens.insert(tokens.end(), kBlock, first + i);
  }
  return tokens;
}

std::vector<int32_t> TakeBlocks(BlockPool& pool, int32_t count) {
  std::vector<int32_t> table;
  pool.Take(count, table);
  return table;
}

void InsertAll(BlockPool& pool, const std::vector<int32_t>& table,
               const std::vector<int32_t>& tokens, std::string_view salt = "") {
  uint64_t link = BlockPool::kNoLink;
  for (size_t i = 0; i < table.size(); ++i) {
    link = pool.Insert(table[i], link, salt, std::span(tokens).subspan(i * kBlock, kBlock));
  }
}

TEST(BlockPool, CountsWhatIsTakenAndGivenBack) {
  BlockPool pool(5);
  EXPECT_EQ(pool.size(), 5);
  EXPECT_EQ(pool.available(), 5);
  std::vector<int32_t> table = TakeBlocks(pool, 3);
  EXPECT_EQ(std::set<int32_t>(table.begin(), table.end()).size(), 3u);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.used(), 3);
  pool.Reference(table);
  pool.Release(table);
  EXPECT_EQ(pool.used(), 3);
  pool.Release(table);
  EXPECT_EQ(pool.used(), 0);
  EXPECT_EQ(TakeBlocks(pool, 5).size(), 5u);
}

TEST(BlockPoolDeathTest, RefusesToHandOutMoreThanItHas) {
  BlockPool pool(2);
  EXPECT_DEATH(TakeBlocks(pool, 3), "CHECK failed");
}

TEST(BlockPool, FindsTheLongestKnownPrefix) {
  BlockPool pool(8);
  const std::vector<int32_t> tokens = Tokens(100, 3);
  const std::vector<int32_t> table = TakeBlocks(pool, 3);
  InsertAll(pool, table, tokens);
  EXPECT_EQ(pool.Lookup(tokens, "", 10), table);
  EXPECT_THAT(pool.Lookup(tokens, "", 2), ElementsAre(table[0], table[1]));
  EXPECT_THAT(pool.Lookup(tokens, "", 0), IsEmpty());
  EXPECT_THAT(pool.Lookup(std::span(tokens).first(2 * kBlock + 15), "", 10),
              ElementsAre(table[0], table[1]));
  std::vector<int32_t> other = tokens;
  other[2 * kBlock + 7] += 1;
  EXPECT_THAT(pool.Lookup(other, "", 10), ElementsAre(table[0], table[1]));
}

TEST(BlockPool, KeepsContentsFindableAfterRelease) {
  BlockPool pool(4);
  const std::vector<int32_t> tokens = Tokens(0, 2);
  const std::vector<int32_t> table = TakeBlocks(pool, 2);
  InsertAll(pool, table, tokens);
  EXPECT_EQ(pool.references(table[1]), 1);
  pool.Release(table);
  EXPECT_EQ(pool.references(table[1]), 0);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_EQ(pool.Lookup(tokens, "", 10), table);
  pool.Reference(table);
  EXPECT_EQ(pool.available(), 2);
}

TEST(BlockPool, NeverSharesBetweenSaltsEvenWhenTheyCollide) {
  for (const uint64_t hash_mask : {~uint64_t{0}, uint64_t{0}}) {
    BlockPool pool(4, hash_mask);
    const std::vector<int32_t> tokens = Tokens(0, 1);
    const std::vector<int32_t> table = TakeBlocks(pool, 1);
    InsertAll(pool, table, tokens, "alice");
    EXPECT_EQ(pool.Lookup(tokens, "alice", 10), table);
    EXPECT_THAT(pool.Lookup(tokens, "bob", 10), IsEmpty());
    EXPECT_THAT(pool.Lookup(tokens, "", 10), IsEmpty());
  }
}

TEST(BlockPool, TellsEqualTokensBehindDifferentPrefixesApart) {
  BlockPool pool(8);
  const std::vector<int32_t> same = Tokens(7, 1);
  std::vector<int32_t> twice = same;
  twice.insert(twice.end(), same.begin(), same.end());
  const std::vector<int32_t> table = TakeBlocks(pool, 2);
  InsertAll(pool, table, twice);
  EXPECT_NE(pool.link(table[0]), pool.link(table[1]));
  EXPECT_EQ(pool.Lookup(twice, "", 10), table);
}

TEST(BlockPool, KeepsASecondCopyPrivate) {
  BlockPool pool(4);
  const std::vector<int32_t> tokens = Tokens(0, 1);
  const std::vector<int32_t> table = TakeBlocks(pool, 2);
  const uint64_t first = pool.Insert(table[0], BlockPool::kNoLink, "", tokens);
  EXPECT_EQ(pool.Insert(table[1], BlockPool::kNoLink, "", tokens), first);
  EXPECT_THAT(pool.Lookup(tokens, "", 10), ElementsAre(table[0]));
}

TEST(BlockPool, TakesBlocksWithoutContentFirstAndThenTheTailOfTheOldestChain) {
  BlockPool pool(6);
  const std::vector<int32_t> old_tokens = Tokens(0, 2);
  const std::vector<int32_t> new_tokens = Tokens(50, 2);
  const std::vector<int32_t> old_table = TakeBlocks(pool, 2);
  const std::vector<int32_t> new_table = TakeBlocks(pool, 2);
  const std::vector<int32_t> plain = TakeBlocks(pool, 2);
  InsertAll(pool, old_table, old_tokens);
  InsertAll(pool, new_table, new_tokens);
  pool.Release(old_table);
  pool.Release(new_table);
  pool.Release(plain);
  std::vector<int32_t> taken = TakeBlocks(pool, 2);
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(taken, plain);
  EXPECT_THAT(TakeBlocks(pool, 1), ElementsAre(old_table[1]));
  EXPECT_THAT(pool.Lookup(old_tokens, "", 10), ElementsAre(old_table[0]));
  EXPECT_THAT(TakeBlocks(pool, 1), ElementsAre(old_table[0]));
  EXPECT_THAT(pool.Lookup(old_tokens, "", 10), IsEmpty());
  EXPECT_EQ(pool.Lookup(new_tokens, "", 10), new_table);
}

TEST(BlockPool, AUseMakesAChainYoungAgain) {
  BlockPool pool(2);
  const std::vector<int32_t> a = TakeBlocks(pool, 1);
  const std::vector<int32_t> b = TakeBlocks(pool, 1);
  InsertAll(pool, a, Tokens(1, 1));
  InsertAll(pool, b, Tokens(2, 1));
  pool.Release(a);
  pool.Release(b);
  pool.Reference(a);
  pool.Release(a);
  EXPECT_EQ(TakeBlocks(pool, 1), b);
}

// Sequences of tokens 0 and 1 under two salts share, lose and find prefixes at random. A hit must
// hold exactly what was entered, whatever collides.
void RunRandomTrace(uint64_t hash_mask) {
  using Content = std::pair<std::string, std::vector<int32_t>>;  // salt, tokens up to the end
  std::mt19937 random(7);
  BlockPool pool(24, hash_mask);
  std::map<int32_t, Content> contents;  // of blocks entered and not taken again
  std::vector<std::vector<int32_t>> tables;
  int hits = 0;
  for (int round = 0; round < 3000; ++round) {
    if (!tables.empty() && (random() % 2 == 0 || pool.available() < 8)) {
      const size_t i = random() % tables.size();
      pool.Release(tables[i]);
      tables.erase(tables.begin() + static_cast<ptrdiff_t>(i));
    } else {
      const std::string salt = random() % 2 == 0 ? "a" : "b";
      std::vector<int32_t> tokens;
      while (tokens.size() < 4 * kBlock) {
        tokens.insert(tokens.end(), kBlock, static_cast<int32_t>(random() % 2));
      }
      std::vector<int32_t> table = pool.Lookup(tokens, salt, 3);
      hits += static_cast<int>(table.size());
      for (size_t i = 0; i < table.size(); ++i) {
        ASSERT_EQ(contents[table[i]],
                  Content(salt, {tokens.begin(), tokens.begin() + (i + 1) * kBlock}));
      }
      pool.Reference(table);
      const size_t known = table.size();
      uint64_t link = known > 0 ? pool.link(table.back()) : BlockPool::kNoLink;
      pool.Take(static_cast<int32_t>(4 - known), table);
      for (size_t i = known; i < 4; ++i) {
        link = pool.Insert(table[i], link, salt, std::span(tokens).subspan(i * kBlock, kBlock));
        contents[table[i]] = {salt, {tokens.begin(), tokens.begin() + (i + 1) * kBlock}};
      }
      tables.push_back(std::move(table));
    }
    std::map<int32_t, int32_t> references;
    for (const auto& table : tables) {
      for (const int32_t block : table) {
        ++references[block];
      }
    }
    ASSERT_EQ(pool.used(), static_cast<int32_t>(references.size()));
    for (const auto& [block, count] : references) {
      ASSERT_EQ(pool.references(block), count);
    }
  }
  EXPECT_GT(hits, 100);
}

TEST(BlockPool, AnswersOnlyWhatWasEntered) { RunRandomTrace(~uint64_t{0}); }

TEST(BlockPool, TakesACollisionForAMiss) { RunRandomTrace(0xF); }

}  // namespace
}  // namespace ballast
