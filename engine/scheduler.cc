#include "engine/scheduler.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/status.h"

namespace ballast {
namespace {

using SequencePtr = std::shared_ptr<Sequence>;

// Order of service within a queue.
bool Outranks(const SequencePtr& a, const SequencePtr& b) {
  return std::tuple(-static_cast<int64_t>(a->request->priority), a->id) <
         std::tuple(-static_cast<int64_t>(b->request->priority), b->id);
}

bool ReadsCache(const Request& request) {
  return !request.bypass_prefix_cache && request.response.prompt_logprobs < 0;
}

// Blocks for all tokens of the sequence and one more to grow into.
int32_t BlocksToGrow(const Sequence& sequence) {
  return BlocksFor(static_cast<int32_t>(sequence.tokens.size())) + 1;
}

int32_t NewBlocks(int32_t computed, int32_t rows, int32_t held) {
  return std::max(0, BlocksFor(computed + rows) - held);
}

// Whether another output of the request finds something in the cache once this one has run.
bool SharesPrompt(const Sequence& sequence) {
  return sequence.request->sampling.n > 1 && ReadsCache(*sequence.request) &&
         sequence.prompt_tokens > kKvBlockTokens;
}

// The pool as it will be once the decisions made so far are carried out.
class PoolForecast {
 public:
  explicit PoolForecast(const BlockPool& pool) : pool_(&pool), available_(pool.available()) {}

  int32_t available() const { return available_; }
  void Take(int32_t count) { available_ -= count; }

  void Reference(const std::vector<int32_t>& blocks) {
    for (const int32_t block : blocks) {
      available_ -= Shift(block, 1) == 1 ? 1 : 0;
    }
  }

  void Release(const std::vector<int32_t>& blocks) {
    for (const int32_t block : blocks) {
      available_ += Shift(block, -1) == 0 ? 1 : 0;
    }
  }

 private:
  // Returns the references of `block` after the change.
  int32_t Shift(int32_t block, int32_t change) {
    return pool_->references(block) + (changes_[block] += change);
  }

  const BlockPool* pool_;
  int32_t available_;
  absl::flat_hash_map<int32_t, int32_t> changes_;
};

// One call of DecideStep: walks running and waiting sequences in the order of rank.
class Decision {
 public:
  Decision(const Queues& queues, const BlockPool& pool, const StepBudget& budget)
      : waiting_(queues.waiting),
        pool_(pool),
        forecast_(pool),
        rows_left_(budget.step_tokens),
        places_left_(budget.max_running - static_cast<int32_t>(queues.running.size())) {
    for (const SequencePtr& sequence : queues.running) {
      if (!sequence->cancelled) {
        running_.push_back(sequence);
        decodes_left_ += Decodes(*sequence) ? 1 : 0;
        NotePrompt(*sequence, sequence->computed);
      }
    }
    std::sort(running_.begin(), running_.end(), Outranks);
    end_ = running_.size();
  }

  Schedule Run() {
    while (next_ < end_) {
      AdmitAbove(running_[next_]->request->priority);
      if (next_ < end_) {
        Continue(running_[next_++]);
      }
    }
    AdmitAbove(std::nullopt);
    for (size_t i = running_.size(); i-- > end_;) {
      schedule_.preempt.push_back(running_[i]);
    }
    schedule_.rows = std::move(decodes_);
    schedule_.rows.insert(schedule_.rows.end(), std::make_move_iterator(prefills_.begin()),
                          std::make_move_iterator(prefills_.end()));
    return std::move(schedule_);
  }

 private:
  static bool Decodes(const Sequence& sequence) { return sequence.pending() == 1; }

  // Rows that a prefill may have: those that no decode to come has a claim on.
  int32_t PrefillRows() const { return std::max(0, rows_left_ - decodes_left_); }

  void NotePrompt(const Sequence& sequence, int32_t computed) {
    if (SharesPrompt(sequence) && computed < sequence.prompt_tokens) {
      computing_prompt_.insert(sequence.request.get());
    }
  }

  void Continue(const SequencePtr& sequence) {
    const bool decodes = Decodes(*sequence);
    decodes_left_ -= decodes ? 1 : 0;
    const int32_t held = static_cast<int32_t>(sequence->blocks.size());
    int32_t rows = std::min(sequence->pending(), decodes ? rows_left_ : PrefillRows());
    if (rows > 0) {
      while (NewBlocks(sequence->computed, rows, held) > forecast_.available() && next_ < end_) {
        PreemptLast();
      }
      const int64_t room =
          (int64_t{held} + forecast_.available()) * kKvBlockTokens - sequence->computed;
      rows = static_cast<int32_t>(std::min<int64_t>(rows, room));
    }
    AddRows(sequence, sequence->computed, rows, held, decodes ? decodes_ : prefills_);
  }

  void PreemptLast() {
    const Sequence& victim = *running_[--end_];
    forecast_.Release(victim.blocks);
    decodes_left_ -= Decodes(victim) ? 1 : 0;
    ++places_left_;
  }

  void SpareLastPreempted() {
    const Sequence& spared = *running_[end_++];
    forecast_.Reference(spared.blocks);
    decodes_left_ += Decodes(spared) ? 1 : 0;
    --places_left_;
  }

  void AddRows(const SequencePtr& sequence, int32_t computed, int32_t rows, int32_t held,
               std::vector<ScheduledRows>& part) {
    const int32_t new_blocks = rows > 0 ? NewBlocks(computed, rows, held) : 0;
    promised_ += std::max(0, BlocksToGrow(*sequence) - held - new_blocks);
    if (rows <= 0) {
      return;
    }
    forecast_.Take(new_blocks);
    rows_left_ -= rows;
    part.push_back({.sequence = sequence,
                    .rows = rows,
                    .new_blocks = new_blocks,
                    .draws = computed + rows == static_cast<int32_t>(sequence->tokens.size())});
  }

  // Admits waiting sequences of a priority above `priority`, or of any, until one does not fit.
  void AdmitAbove(std::optional<int32_t> priority) {
    for (; head_ < waiting_.size(); ++head_) {
      const SequencePtr& sequence = waiting_[head_];
      if (priority.has_value() && sequence->request->priority <= *priority) {
        return;
      }
      if (sequence->cancelled || computing_prompt_.contains(sequence->request.get())) {
        continue;
      }
      if (PrefillRows() == 0 || AfterPreempted(sequence) || !Admit(sequence)) {
        head_ = waiting_.size();
        return;
      }
    }
  }

  // What was just taken from a sequence is not given to one that it outranks.
  bool AfterPreempted(const SequencePtr& sequence) const {
    return end_ < running_.size() && Outranks(running_[end_], sequence);
  }

  bool Admit(const SequencePtr& sequence) {
    // Those running that have not been walked yet are of lower priority.
    const int32_t victims = static_cast<int32_t>(end_ - next_);
    if (places_left_ + victims <= 0) {
      return false;
    }
    std::vector<int32_t> cached;
    if (ReadsCache(*sequence->request)) {
      cached = pool_.Lookup(sequence->tokens, sequence->request->cache_salt,
                            (static_cast<int32_t>(sequence->tokens.size()) - 1) / kKvBlockTokens);
    }
    const int32_t held = static_cast<int32_t>(cached.size());
    if (!MakeRoom(*sequence, cached)) {
      return false;
    }
    const int32_t computed = held * kKvBlockTokens;
    const int32_t pending = static_cast<int32_t>(sequence->tokens.size()) - computed;
    NotePrompt(*sequence, computed);
    AddRows(sequence, computed, std::min(pending, PrefillRows()), held, prefills_);
    --places_left_;
    schedule_.admit.push_back({.sequence = sequence, .cached_blocks = std::move(cached)});
    return true;
  }

  // References `cached` and preempts as few as it takes to admit; false and no change when even
  // all victims would not do.
  bool MakeRoom(const Sequence& sequence, const std::vector<int32_t>& cached) {
    const int32_t all = BlocksFor(static_cast<int32_t>(sequence.tokens.size()));
    // A sequence that fills the whole pool may still run alone.
    const int32_t need =
        std::max(all, std::min(all + 1, pool_.size())) - static_cast<int32_t>(cached.size());
    const size_t end = end_;
    forecast_.Reference(cached);
    while (places_left_ <= 0 || forecast_.available() < promised_ + need) {
      if (end_ == next_) {
        while (end_ < end) {
          SpareLastPreempted();
        }
        forecast_.Release(cached);
        return false;
      }
      PreemptLast();
    }
    return true;
  }

  const std::vector<SequencePtr>& waiting_;
  const BlockPool& pool_;
  std::vector<SequencePtr> running_;  // by rank; those from end_ on are preempted
  size_t next_ = 0;                   // first of running_ that has not been walked
  size_t end_ = 0;
  size_t head_ = 0;  // first of waiting_ that has not been walked
  PoolForecast forecast_;
  int32_t rows_left_;
  int32_t decodes_left_ = 0;  // of running_[next_, end_)
  int32_t places_left_;
  int32_t promised_ = 0;  // blocks that the sequences walked so far lack to grow
  absl::flat_hash_set<const Request*> computing_prompt_;
  std::vector<ScheduledRows> decodes_;
  std::vector<ScheduledRows> prefills_;
  Schedule schedule_;
};

void ReturnBlocks(Sequence& sequence, BlockPool& pool) {
  pool.Release(sequence.blocks);
  sequence.blocks.clear();
  sequence.computed = 0;
  sequence.hashed_blocks = 0;
  sequence.last_link = BlockPool::kNoLink;
}

void StartSequence(const Admission& admission, BlockPool& pool) {
  Sequence& sequence = *admission.sequence;
  pool.Reference(admission.cached_blocks);
  sequence.blocks = admission.cached_blocks;
  sequence.hashed_blocks = static_cast<int32_t>(sequence.blocks.size());
  sequence.computed = sequence.hashed_blocks * kKvBlockTokens;
  sequence.last_link =
      sequence.blocks.empty() ? BlockPool::kNoLink : pool.link(sequence.blocks.back());
  if (!sequence.admitted) {
    sequence.admitted = true;
    sequence.cached_prompt_tokens = sequence.computed;
  }
}

// Takes the admitted out of `waiting`, which has them in the same order, in one pass.
void TakeOut(const std::vector<Admission>& admitted, std::vector<SequencePtr>& waiting) {
  auto next = admitted.begin();
  auto kept = waiting.begin();
  for (SequencePtr& sequence : waiting) {
    if (next != admitted.end() && next->sequence == sequence) {
      ++next;
    } else if (&*kept == &sequence) {
      ++kept;
    } else {
      *kept++ = std::move(sequence);
    }
  }
  CHECK(next == admitted.end());
  waiting.erase(kept, waiting.end());
}

}  // namespace

Schedule DecideStep(const Queues& queues, const BlockPool& pool, const StepBudget& budget) {
  return Decision(queues, pool, budget).Run();
}

void ApplySchedule(const Schedule& schedule, Queues& queues, BlockPool& pool) {
  TakeOut(schedule.admit, queues.waiting);
  // All blocks come back before any is taken, and found prefixes are held before either.
  for (const Admission& admission : schedule.admit) {
    StartSequence(admission, pool);
    queues.running.push_back(admission.sequence);
  }
  for (const SequencePtr& sequence : schedule.preempt) {
    ReturnBlocks(*sequence, pool);
    std::erase(queues.running, sequence);
    Enqueue(sequence, queues);
  }
  for (const ScheduledRows& scheduled : schedule.rows) {
    pool.Take(scheduled.new_blocks, scheduled.sequence->blocks);
  }
}

void Enqueue(std::shared_ptr<Sequence> sequence, Queues& queues) {
  const auto place =
      std::upper_bound(queues.waiting.begin(), queues.waiting.end(), sequence, Outranks);
  queues.waiting.insert(place, std::move(sequence));
}

void MarkComputed(Sequence& sequence, int32_t rows, BlockPool& pool) {
  sequence.computed += rows;
  CHECK(rows >= 0 && sequence.pending() >= 0 &&
        BlocksFor(sequence.computed) <= static_cast<int32_t>(sequence.blocks.size()));
  if (sequence.request->bypass_prefix_cache) {
    return;
  }
  const std::span<const int32_t> tokens = sequence.tokens;
  for (int32_t& i = sequence.hashed_blocks; i < sequence.computed / kKvBlockTokens; ++i) {
    sequence.last_link =
        pool.Insert(sequence.blocks[i], sequence.last_link, sequence.request->cache_salt,
                    tokens.subspan(static_cast<size_t>(i) * kKvBlockTokens, kKvBlockTokens));
  }
}

void Remove(Sequence& sequence, Queues& queues, BlockPool& pool) {
  // Blocks first: erasing may drop the last pointer to the sequence.
  ReturnBlocks(sequence, pool);
  const auto is_it = [&sequence](const SequencePtr& other) { return other.get() == &sequence; };
  if (std::erase_if(queues.running, is_it) == 0) {
    std::erase_if(queues.waiting, is_it);
  }
}

}  // namespace ballast
