// Random arrivals, priorities, lengths, pools and cancellations against what the scheduler
// promises, with blocks that remember what was written to them.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "absl/hash/hash.h"
#include "engine/scheduler.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using SequencePtr = std::shared_ptr<Sequence>;

struct TraceOptions {
  uint32_t seed = 0;
  int32_t blocks = 0;
  StepBudget budget;
  int32_t requests = 0;
  int32_t max_prompt = 0;
  int32_t max_output = 0;
  int32_t priorities = 1;
  int32_t arrivals_per_step = 1;
  bool cancels = false;
};

class Trace {
 public:
  explicit Trace(const TraceOptions& options)
      : options_(options),
        random_(options.seed),
        pool_(options.blocks),
        written_(static_cast<size_t>(options.blocks) * kKvBlockTokens) {}

  void Run() {
    const int64_t limit = 400'000;
    int64_t step = 0;
    for (; step < limit && (arrived_ < options_.requests || !live_.empty()); ++step) {
      Arrive();
      Cancel();
      Step();
      if (::testing::Test::HasFatalFailure()) {
        return;
      }
    }
    ASSERT_LT(step, limit) << "no end in sight";
    ASSERT_EQ(pool_.used(), 0);
    ASSERT_TRUE(queues_.waiting.empty() && queues_.running.empty());
  }

  int64_t preemptions() const { return preemptions_; }
  int64_t cached_tokens() const { return cached_tokens_; }

 private:
  int32_t Random(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % static_cast<uint32_t>(high - low + 1));
  }

  void Arrive() {
    for (int32_t i = 0; i < options_.arrivals_per_step && arrived_ < options_.requests; ++i) {
      ++arrived_;
      auto request = std::make_shared<Request>();
      // Prompts share beginnings, so that prefixes are found.
      const int32_t family = Random(0, 3);
      request->prompt.assign(Random(1, options_.max_prompt), family);
      request->prompt.back() = Random(0, 100);
      request->priority = Random(0, options_.priorities - 1);
      request->sampling.n = Random(0, 3) == 0 ? Random(1, 4) : 1;
      request->bypass_prefix_cache = Random(0, 9) == 0;
      request->cache_salt = Random(0, 3) == 0 ? "salt" : "";
      for (int32_t index = 0; index < request->sampling.n; ++index) {
        auto sequence = std::make_shared<Sequence>();
        sequence->id = next_id_++;
        sequence->request = request;
        sequence->output_index = index;
        sequence->tokens = request->prompt;
        sequence->prompt_tokens = static_cast<int32_t>(request->prompt.size());
        goals_[sequence->id] = Random(1, options_.max_output);
        live_.push_back(sequence);
        Enqueue(sequence, queues_);
      }
    }
  }

  void Cancel() {
    if (!options_.cancels || live_.empty() || Random(0, 3) != 0) {
      return;
    }
    const SequencePtr victim = live_[Random(0, static_cast<int32_t>(live_.size()) - 1)];
    Leave(victim);
  }

  void Leave(const SequencePtr& sequence) {
    Remove(*sequence, queues_, pool_);
    std::erase(live_, sequence);
  }

  static auto RankOf(const Sequence& sequence) {
    return std::tuple(-sequence.request->priority, sequence.id);
  }

  void Step() {
    const Schedule schedule = DecideStep(queues_, pool_, options_.budget);
    CheckSame(schedule, DecideStep(queues_, pool_, options_.budget));
    CheckBudget(schedule);
    CheckRanking(schedule);
    const std::set<SequencePtr> fresh = FirstAdmissions(schedule);
    ApplySchedule(schedule, queues_, pool_);
    preemptions_ += static_cast<int64_t>(schedule.preempt.size());
    CheckQueues();
    CheckReferences();
    CheckFirstAdvances(schedule);
    for (const SequencePtr& sequence : fresh) {
      cached_tokens_ += sequence->cached_prompt_tokens;
      ASSERT_LT(sequence->cached_prompt_tokens, sequence->prompt_tokens);
    }
    for (const ScheduledRows& scheduled : schedule.rows) {
      RunRows(scheduled);
    }
  }

  static std::set<SequencePtr> FirstAdmissions(const Schedule& schedule) {
    std::set<SequencePtr> fresh;
    for (const Admission& admission : schedule.admit) {
      if (!admission.sequence->admitted) {
        fresh.insert(admission.sequence);
      }
    }
    return fresh;
  }

  static void CheckSame(const Schedule& a, const Schedule& b) {
    ASSERT_EQ(a.preempt, b.preempt);
    ASSERT_EQ(a.admit.size(), b.admit.size());
    for (size_t i = 0; i < a.admit.size(); ++i) {
      ASSERT_EQ(a.admit[i].sequence, b.admit[i].sequence);
      ASSERT_EQ(a.admit[i].cached_blocks, b.admit[i].cached_blocks);
    }
    ASSERT_EQ(a.rows.size(), b.rows.size());
    for (size_t i = 0; i < a.rows.size(); ++i) {
      ASSERT_EQ(a.rows[i].sequence, b.rows[i].sequence);
      ASSERT_EQ(a.rows[i].rows, b.rows[i].rows);
    }
  }

  void CheckBudget(const Schedule& schedule) {
    const std::set<SequencePtr> running(queues_.running.begin(), queues_.running.end());
    int32_t rows = 0;
    bool prefill_seen = false;
    std::set<SequencePtr> scheduled_once;
    for (const ScheduledRows& scheduled : schedule.rows) {
      ASSERT_GT(scheduled.rows, 0);
      ASSERT_TRUE(scheduled_once.insert(scheduled.sequence).second);
      rows += scheduled.rows;
      const bool decode =
          running.contains(scheduled.sequence) && scheduled.sequence->pending() == 1;
      ASSERT_FALSE(decode && prefill_seen) << "a decode behind a prefill";
      prefill_seen |= !decode;
    }
    ASSERT_LE(rows, options_.budget.step_tokens);
    ASSERT_TRUE(live_.empty() || rows > 0) << "nothing moves";
  }

  void CheckRanking(const Schedule& schedule) {
    const std::set<SequencePtr> preempted(schedule.preempt.begin(), schedule.preempt.end());
    for (const SequencePtr& victim : preempted) {
      for (const SequencePtr& other : queues_.running) {
        ASSERT_TRUE(preempted.contains(other) || RankOf(*other) < RankOf(*victim));
      }
      for (const Admission& admission : schedule.admit) {
        ASSERT_TRUE(RankOf(*admission.sequence) < RankOf(*victim));
      }
    }
    // Nobody gets past one that waits, but for the other outputs of a prompt being computed.
    if (schedule.admit.empty()) {
      return;
    }
    std::set<const Sequence*> admitted;
    for (const Admission& admission : schedule.admit) {
      admitted.insert(admission.sequence.get());
    }
    const auto last = RankOf(*schedule.admit.back().sequence);
    for (const SequencePtr& sequence : queues_.waiting) {
      if (RankOf(*sequence) > last) {
        break;
      }
      ASSERT_TRUE(admitted.contains(sequence.get()) || SiblingComputes(*sequence, schedule));
    }
  }

  bool SiblingComputes(const Sequence& sequence, const Schedule& schedule) const {
    const auto computes = [&sequence](const SequencePtr& other) {
      return other->request == sequence.request && other->computed < other->prompt_tokens;
    };
    return std::any_of(queues_.running.begin(), queues_.running.end(), computes) ||
           std::any_of(schedule.admit.begin(), schedule.admit.end(),
                       [&](const Admission& admission) { return computes(admission.sequence); });
  }

  void CheckQueues() {
    ASSERT_LE(static_cast<int32_t>(queues_.running.size()), options_.budget.max_running);
    ASSERT_EQ(queues_.running.size() + queues_.waiting.size(), live_.size());
    ASSERT_TRUE(std::is_sorted(
        queues_.waiting.begin(), queues_.waiting.end(),
        [](const SequencePtr& a, const SequencePtr& b) { return RankOf(*a) < RankOf(*b); }));
  }

  void CheckReferences() {
    std::map<int32_t, int32_t> references;
    for (const SequencePtr& sequence : live_) {
      for (const int32_t block : sequence->blocks) {
        ++references[block];
      }
    }
    ASSERT_EQ(pool_.used(), static_cast<int32_t>(references.size()));
    ASSERT_EQ(pool_.used() + pool_.available(), pool_.size());
    for (const auto& [block, count] : references) {
      ASSERT_EQ(pool_.references(block), count);
    }
    for (const SequencePtr& sequence : queues_.waiting) {
      ASSERT_TRUE(sequence->blocks.empty() && sequence->computed == 0 &&
                  sequence->hashed_blocks == 0 && sequence->last_link == BlockPool::kNoLink);
    }
  }

  void CheckFirstAdvances(const Schedule& schedule) {
    if (queues_.running.empty()) {
      return;
    }
    const SequencePtr first = *std::min_element(
        queues_.running.begin(), queues_.running.end(),
        [](const SequencePtr& a, const SequencePtr& b) { return RankOf(*a) < RankOf(*b); });
    ASSERT_TRUE(std::any_of(
        schedule.rows.begin(), schedule.rows.end(),
        [&first](const ScheduledRows& scheduled) { return scheduled.sequence == first; }));
  }

  // What a position's keys stand for: all tokens up to it.
  static std::vector<size_t> ContentsOf(const Sequence& sequence, int32_t end) {
    std::vector<size_t> contents;
    size_t hash = 1;
    for (int32_t i = 0; i < end; ++i) {
      hash = absl::HashOf(hash, sequence.tokens[i]);
      contents.push_back(hash);
    }
    return contents;
  }

  void RunRows(const ScheduledRows& scheduled) {
    Sequence& sequence = *scheduled.sequence;
    const int32_t end = sequence.computed + scheduled.rows;
    ASSERT_LE(end, static_cast<int32_t>(sequence.tokens.size()));
    ASSERT_EQ(static_cast<int32_t>(sequence.blocks.size()), BlocksFor(end));
    ASSERT_EQ(scheduled.draws, end == static_cast<int32_t>(sequence.tokens.size()));
    const std::vector<size_t> contents = ContentsOf(sequence, end);
    for (int32_t i = 0; i < end; ++i) {
      const int32_t block = sequence.blocks[i / kKvBlockTokens];
      size_t& slot = written_[static_cast<size_t>(block) * kKvBlockTokens + i % kKvBlockTokens];
      if (i < sequence.computed) {
        ASSERT_EQ(slot, contents[i]) << "position " << i << " was lost or is another's";
      } else {
        ASSERT_EQ(pool_.references(block), 1) << "a shared block is written";
        slot = contents[i];
      }
    }
    MarkComputed(sequence, scheduled.rows, pool_);
    if (scheduled.draws) {
      sequence.tokens.push_back(static_cast<int32_t>(sequence.id * 7 + sequence.tokens.size()) % 3);
      if (sequence.output_tokens() == goals_[sequence.id]) {
        Leave(scheduled.sequence);
      }
    }
  }

  const TraceOptions options_;
  std::mt19937 random_;
  BlockPool pool_;
  std::vector<size_t> written_;  // [blocks * kKvBlockTokens]
  Queues queues_;
  std::vector<SequencePtr> live_;
  std::map<uint64_t, int32_t> goals_;  // tokens to be drawn, by sequence id
  uint64_t next_id_ = 1;
  int32_t arrived_ = 0;
  int64_t preemptions_ = 0;
  int64_t cached_tokens_ = 0;
};

TEST(SchedulerTrace, KeepsItsPromisesWithAmplyMemory) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Trace trace({.seed = seed,
                 .blocks = 400,
                 .budget = {.step_tokens = 48, .max_running = 16},
                 .requests = 100,
                 .max_prompt = 100,
                 .max_output = 40});
    ASSERT_NO_FATAL_FAILURE(trace.Run()) << "seed " << seed;
    EXPECT_EQ(trace.preemptions(), 0);
    EXPECT_GT(trace.cached_tokens(), 0);
  }
}

TEST(SchedulerTrace, KeepsItsPromisesWhenMemoryIsShort) {
  int64_t preemptions = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    // The longest sequence just fits: 80 + 48 tokens, the last of them never computed.
    Trace trace({.seed = seed,
                 .blocks = 8 + static_cast<int32_t>(seed % 7),
                 .budget = {.step_tokens = 3 + static_cast<int32_t>(seed % 30), .max_running = 8},
                 .requests = 60,
                 .max_prompt = 80,
                 .max_output = 49,
                 .priorities = 3,
                 .arrivals_per_step = 2,
                 .cancels = seed % 2 == 0});
    ASSERT_NO_FATAL_FAILURE(trace.Run()) << "seed " << seed;
    preemptions += trace.preemptions();
  }
  EXPECT_GT(preemptions, 100);
}

TEST(SchedulerTrace, KeepsItsPromisesWithOneRowAStep) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    Trace trace({.seed = seed,
                 .blocks = 10,
                 .budget = {.step_tokens = 1, .max_running = 4},
                 .requests = 20,
                 .max_prompt = 40,
                 .max_output = 20,
                 .priorities = 2});
    ASSERT_NO_FATAL_FAILURE(trace.Run()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace ballast
