// One output being generated: what the scheduler and the engine know of it. Lives at the leader.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"

namespace ballast {

struct Sequence {
  uint64_t id = 0;  // unique in this process, ascending with arrival
  std::shared_ptr<const Request> request;
  int32_t output_index = 0;  // 0 .. n-1

  // Prompt, then every token drawn so far.
  std::vector<int32_t> tokens;
  int32_t prompt_tokens = 0;
  // Tokens whose keys and values are in the cache; preemption sets it back to 0.
  int32_t computed = 0;
  // Prompt tokens whose log-probability is known already (prompt_logprobs), and tokens whose expert
  // choices are (return_routed_experts): recomputation does not ask again.
  int32_t scored = 1;  // the first has none
  int32_t routed = 0;
  // Of the prompt's tokens, how many came from the prefix cache when it was first admitted.
  int32_t cached_prompt_tokens = 0;
  bool admitted = false;  // has run before; stays so when preempted

  int32_t rank = 0;             // the rank that holds its KV
  std::vector<int32_t> blocks;  // block table; block i holds positions [16i, 16i+16)
  // Of `blocks`, how many are full and entered into the prefix cache.
  int32_t hashed_blocks = 0;
  uint64_t last_link = 0;  // BlockPool's link of block hashed_blocks - 1

  bool cancelled = false;  // leaves, with its blocks, at the next step

  int32_t output_tokens() const { return static_cast<int32_t>(tokens.size()) - prompt_tokens; }
  // Tokens still to go through the model before the next one can be drawn; 1 when decoding.
  int32_t pending() const { return static_cast<int32_t>(tokens.size()) - computed; }
};

}  // namespace ballast
