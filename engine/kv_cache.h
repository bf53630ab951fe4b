// Bookkeeping of the paged KV cache: which block belongs to whom, and the prefix cache over full
// blocks. Block contents live on the rank's device. Not thread-safe; the leader owns it.
//
// Prefix cache: a full block is found by a hash over its tokens and the link of the block before it
// (for the first block: the cache salt). A link is a number that stands for one exact content
// (salt and all tokens up to the block's end) and is never reused; on a hit the link, the salt and
// the tokens are compared, so a hash collision is a miss and two salts never share. Blocks that
// nobody references stay cached until they are needed, least recently used first (a chain's tail
// before its head). Every operation takes constant time per block.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kernels/device.h"

namespace ballast {

// Blocks that hold `tokens` positions.
constexpr int32_t BlocksFor(int32_t tokens) {
  return tokens / kKvBlockTokens + (tokens % kKvBlockTokens != 0 ? 1 : 0);
}

class BlockPool {
 public:
  // The link before a first block.
  static constexpr uint64_t kNoLink = 0;

  // Only the hash bits in `hash_mask` count; tests leave few, so that collisions happen.
  explicit BlockPool(int32_t blocks, uint64_t hash_mask = ~uint64_t{0});

  int32_t size() const { return static_cast<int32_t>(blocks_.size()) - 1; }
  // Blocks that Take can deliver: never used ones and cached ones that nobody references.
  int32_t available() const { return idle_; }
  // Blocks referenced by sequences.
  int32_t used() const { return size() - idle_; }
  // Times that sequences reference `block`.
  int32_t references(int32_t block) const { return blocks_[block].references; }
  // The link of a block that Lookup returned.
  uint64_t link(int32_t block) const { return blocks_[block].link; }

  // Cached blocks for the longest prefix of `tokens` that is known, at most `max_blocks`.
  // Changes nothing; pure with respect to the pool.
  std::vector<int32_t> Lookup(std::span<const int32_t> tokens, std::string_view salt,
                              int32_t max_blocks) const;

  void Reference(std::span<const int32_t> blocks);
  // Appends `count` fresh blocks to `table`. CHECKs that they are available.
  void Take(int32_t count, std::vector<int32_t>& table);
  // Drops one reference of each of a table's blocks; full cached blocks stay findable.
  void Release(std::span<const int32_t> blocks);
  // Enters a full, referenced block whose content follows `parent`: kNoLink (only then does `salt`
  // matter) or what Insert or link() said of the block before it. Returns the link of the content.
  // When the same content is known already under another block, this one stays private.
  uint64_t Insert(int32_t block, uint64_t parent, std::string_view salt,
                  std::span<const int32_t> tokens);

 private:
  struct Block {
    int32_t references = 0;
    bool cached = false;
    // Neighbours in the ring of unreferenced blocks.
    int32_t before = 0;
    int32_t after = 0;
    uint64_t hash = 0;
    uint64_t parent = kNoLink;
    uint64_t link = kNoLink;
    std::string salt;  // of first blocks
    std::array<int32_t, kKvBlockTokens> tokens{};
  };

  uint64_t Hash(uint64_t parent, std::string_view salt, std::span<const int32_t> tokens) const;
  int32_t Find(uint64_t hash, uint64_t parent, std::string_view salt,
               std::span<const int32_t> tokens) const;
  void Forget(Block& block);
  void LinkBefore(int32_t place, int32_t block);
  void Unlink(int32_t block);

  // [size + 1]; the last entry is the head of the ring: its `after` is the next to be taken.
  std::vector<Block> blocks_;
  uint64_t hash_mask_;
  int32_t idle_ = 0;
  uint64_t next_link_ = kNoLink + 1;
  absl::flat_hash_map<uint64_t, int32_t> by_hash_;
};

}  // namespace ballast
