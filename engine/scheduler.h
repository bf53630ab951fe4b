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
  int32_t new_blocks = 0;  // blocks to take from the pool for these rows
  bool draws = false;      // the last row is the sequence's last token: draw the next one
};

struct Admission {
  std::shared_ptr<Sequence> sequence;
  std::vector<int32_t> cached_blocks;  // prefix found in the cache; to be referenced
};

struct Schedule {
  std::vector<std::shared_ptr<Sequence>> preempt;  // give their blocks back, wait again
  std::vector<Admission> admit;                    // from waiting to running
  // Running sequences that decode come first, then chunks of prefill; each part by rank.
  std::vector<ScheduledRows> rows;
};

// Decides one step. An empty result means that there is nothing to run. Cancelled sequences are
// passed over; a sequence that needs more blocks than the pool has is never admitted, and the
// engine must end a sequence before its rows outgrow the pool.
//
// Rank. Sequences are served by priority, then running before waiting, then arrival. Every running
// sequence that decodes (one token to go) has a row of the budget set aside, so that prefill never
// holds up decoding; prefills share the rest in the order of rank. A sequence is admitted
// only into a step that has a row for it, so all that run can move at every step.
//
// Preemption. A running sequence in need of blocks takes them from the newest of the lowest
// priority, and never from one that outranks it: the first in rank always advances, so there is no
// livelock. One that finds no victim runs fewer rows, or none, and keeps its blocks. A waiting
// sequence may push out running ones of strictly lower priority, for their blocks or their place,
// but only when that lets it in. Nothing that a preempted sequence outranks is admitted in the same
// step.
//
// Admission. In waiting order, never past one that does not fit, so none starves. Against
// thrashing, a sequence is let in only when the pool has room for all the tokens it has now and one
// block to grow, beyond what those of its priority and above lack for all of theirs and one block
// to grow. Its prefix is looked up unless the request bypasses the cache or wants the prompt's
// log-probabilities; the last token is always computed. While one output of a request computes the
// prompt, the others wait, passed over, so that they find it in the cache.
//
// Cost: the running sequences, the cached prefix of each admitted one, and of the waiting ones only
// as many as are admitted or passed over.
Schedule DecideStep(const Queues& queues, const BlockPool& pool, const StepBudget& budget);

// Carries a decision out: moves sequences between queues, takes and returns blocks. After it, the
// block tables of all scheduled sequences cover the rows to be run.
void ApplySchedule(const Schedule& schedule, Queues& queues, BlockPool& pool);

// Puts a sequence into `waiting` where its priority and arrival belong.
void Enqueue(std::shared_ptr<Sequence> sequence, Queues& queues);

// After a step ran: counts the rows as computed and enters full blocks into the prefix cache,
// unless the request bypasses it.
void MarkComputed(Sequence& sequence, int32_t rows, BlockPool& pool);

// Takes a sequence out of whichever queue holds it, if any, and returns its blocks.
void Remove(Sequence& sequence, Queues& queues, BlockPool& pool);

}  // namespace ballast
