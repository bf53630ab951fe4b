// Which tokens run next: continuous batching of prefill and decode under a token budget, chunked
// prefill, priorities, preemption by recomputation. Pure decisions: plain data in, plain data out,
// no clock, no lock, no I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/sequence.h"

namespace ballast {

struct StepBudget {
  int32_t step_tokens = 512;  // rows of a step, at most
  int32_t max_running = 64;   // sequences with KV at once
};

// All sequences the leader knows, by state. `waiting` is kept by (priority descending, arrival);
// preempted sequences wait there too, with their first arrival.
struct Queues {
  std::vector<std::shared_ptr<Sequence>> waiting;
  std::vector<std::shared_ptr<Sequence>> running;  // in order of admission
};

// Rows of one sequence in a step: positions [sequence->computed, computed + rows).
struct ScheduledRows {
  std::shared_ptr<Sequence> sequence;
  int32_t rows = 0;
  int32_t new_blocks = 0;    // blocks to take from the pool for these rows
  bool draws = false;        // the last row is the sequence's last token: draw the next one
};

struct Admission {
  std::shared_ptr<Sequence> sequence;
  std::vector<int32_t> cached_blocks;  // prefix found in the cache; to be referenced
};

struct Schedule {
  std::vector<std::shared_ptr<Sequence>> preempt;  // give their blocks back, wait again
  std::vector<Admission> admit;                    // from waiting to running
  std::vector<ScheduledRows> rows;                 // all decodes first, then chunks of prefill
};

// Decides one step. Decodes of running sequences come first, then running prefills, then
// admissions in waiting order (never past one that does not fit: no starvation). When blocks run
// out the newest sequence of the lowest priority is preempted, never one that outranks the one in
// need. An empty result means that there is nothing to run.
Schedule DecideStep(const Queues& queues, const BlockPool& pool, const StepBudget& budget);

// Carries a decision out: moves sequences between queues, takes and returns blocks. After it, the
// block tables of all scheduled sequences cover the rows to be run.
void ApplySchedule(const Schedule& schedule, Queues& queues, BlockPool& pool);

// Puts a sequence into `waiting` where its priority and arrival belong.
void Enqueue(std::shared_ptr<Sequence> sequence, Queues& queues);

// After a step ran: counts the rows as computed and enters full blocks into the prefix cache.
void MarkComputed(Sequence& sequence, int32_t rows, BlockPool& pool);

// Takes a sequence out of whichever queue holds it and returns its blocks.
void Remove(Sequence& sequence, Queues& queues, BlockPool& pool);

}  // namespace ballast
