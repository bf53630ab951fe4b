// Bookkeeping of the paged KV cache: which block belongs to whom, and the prefix cache over full
// blocks. Block contents live on the rank's device. Not thread-safe; the leader owns it.
//
// Prefix cache: a full block is known by a hash chained over its tokens, the hash of the block
// before it, and the cache salt for the first. Tokens are compared on a hit, so a collision is a
// miss. Blocks that nobody references stay cached until they are needed, least recently used
// first (a chain's tail before its head).
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/device.h"

namespace ballast {

class BlockPool {
 public:
  explicit BlockPool(int32_t blocks);

  int32_t size() const;
  // Blocks that Take can deliver: never used ones and cached ones that nobody references.
  int32_t available() const;
  // Blocks referenced by sequences.
  int32_t used() const;

  // Cached blocks for the longest prefix of `tokens` that is known, at most `max_blocks`.
  // Changes nothing; pure with respect to the pool.
  std::vector<int32_t> Lookup(std::span<const int32_t> tokens, std::string_view salt,
                              int32_t max_blocks) const;
  // Of `blocks` (from Lookup), how many nobody references now: taking them lowers available().
  int32_t Unreferenced(std::span<const int32_t> blocks) const;

  void Reference(std::span<const int32_t> blocks);
  // Appends `count` fresh blocks to `table`. CHECKs that they are available.
  void Take(int32_t count, std::vector<int32_t>& table);
  // Drops one reference of each; full cached blocks stay findable.
  void Release(std::span<const int32_t> blocks);
  // Enters a full block under its hash; returns the hash for the next link. When the same content
  // is known already under another block, this one stays private.
  uint64_t Insert(int32_t block, uint64_t parent_hash, std::span<const int32_t> tokens);
  // The parent hash of a first block.
  static uint64_t RootHash(std::string_view salt);

 private:
  struct Block {
    int32_t references = 0;
    bool cached = false;
    uint64_t hash = 0;
    uint64_t parent = 0;
    std::vector<int32_t> tokens;  // [kKvBlockTokens] when cached
    std::list<int32_t>::iterator idle;  // place in idle_ when references == 0
  };
  std::vector<Block> blocks_;
  std::list<int32_t> idle_;  // unreferenced blocks, next to be taken first
  std::unordered_map<uint64_t, int32_t> by_hash_;
};

}  // namespace ballast
