#include "engine/kv_cache.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "engine/status.h"

namespace ballast {
namespace {

constexpr size_t kTokens = kKvBlockTokens;

// A salt counts at the head of a chain only; further down the parent's link stands for it.
std::string_view SaltAt(uint64_t parent, std::string_view salt) {
  return parent == BlockPool::kNoLink ? salt : std::string_view();
}

}  // namespace

BlockPool::BlockPool(int32_t blocks, uint64_t hash_mask) : hash_mask_(hash_mask) {
  CHECK(blocks >= 0);
  blocks_.resize(static_cast<size_t>(blocks) + 1);
  by_hash_.reserve(static_cast<size_t>(blocks));
  blocks_[blocks].before = blocks;
  blocks_[blocks].after = blocks;
  for (int32_t block = 0; block < blocks; ++block) {
    LinkBefore(size(), block);
  }
}

void BlockPool::LinkBefore(int32_t place, int32_t block) {
  const int32_t before = blocks_[place].before;
  blocks_[block].before = before;
  blocks_[block].after = place;
  blocks_[before].after = block;
  blocks_[place].before = block;
  ++idle_;
}

void BlockPool::Unlink(int32_t block) {
  const auto [before, after] = std::pair(blocks_[block].before, blocks_[block].after);
  blocks_[before].after = after;
  blocks_[after].before = before;
  --idle_;
}

uint64_t BlockPool::Hash(uint64_t parent, std::string_view salt,
                         std::span<const int32_t> tokens) const {
  return absl::HashOf(parent, salt, absl::MakeConstSpan(tokens.data(), tokens.size())) & hash_mask_;
}

int32_t BlockPool::Find(uint64_t hash, uint64_t parent, std::string_view salt,
                        std::span<const int32_t> tokens) const {
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end()) {
    return -1;
  }
  const Block& block = blocks_[found->second];
  const bool same = block.parent == parent && block.salt == salt &&
                    std::equal(tokens.begin(), tokens.end(), block.tokens.begin());
  return same ? found->second : -1;
}

std::vector<int32_t> BlockPool::Lookup(std::span<const int32_t> tokens, std::string_view salt,
                                       int32_t max_blocks) const {
  std::vector<int32_t> found;
  const size_t limit = std::min<size_t>(std::max(max_blocks, 0), tokens.size() / kTokens);
  uint64_t parent = kNoLink;
  for (size_t i = 0; i < limit; ++i) {
    const std::span<const int32_t> content = tokens.subspan(i * kTokens, kTokens);
    const std::string_view head_salt = SaltAt(parent, salt);
    const int32_t block = Find(Hash(parent, head_salt, content), parent, head_salt, content);
    if (block < 0) {
      break;
    }
    found.push_back(block);
    parent = blocks_[block].link;
  }
  return found;
}

void BlockPool::Reference(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    if (blocks_[block].references++ == 0) {
      Unlink(block);
    }
  }
}

void BlockPool::Forget(Block& block) {
  if (!block.cached) {
    return;
  }
  by_hash_.erase(block.hash);
  block.cached = false;
  block.link = kNoLink;
  block.salt.clear();
}

void BlockPool::Take(int32_t count, std::vector<int32_t>& table) {
  CHECK(count >= 0 && count <= idle_);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t block = blocks_[size()].after;
    Unlink(block);
    Forget(blocks_[block]);
    blocks_[block].references = 1;
    table.push_back(block);
  }
}

void BlockPool::Release(std::span<const int32_t> blocks) {
  // From the tail, so that the tail is the first to be taken: a chain without its head is useless.
  for (size_t i = blocks.size(); i-- > 0;) {
    Block& block = blocks_[blocks[i]];
    CHECK(block.references > 0);
    if (--block.references == 0) {
      LinkBefore(block.cached ? size() : blocks_[size()].after, blocks[i]);
    }
  }
}

uint64_t BlockPool::Insert(int32_t number, uint64_t parent, std::string_view salt,
                           std::span<const int32_t> tokens) {
  Block& block = blocks_[number];
  CHECK(tokens.size() == kTokens && block.references > 0 && !block.cached);
  const std::string_view head_salt = SaltAt(parent, salt);
  const uint64_t hash = Hash(parent, head_salt, tokens);
  if (const int32_t known = Find(hash, parent, head_salt, tokens); known >= 0) {
    return blocks_[known].link;
  }
  const uint64_t link = next_link_++;
  // After a collision the content gets a link of its own too, so that nothing behind it can be
  // taken for what follows the other content.
  if (by_hash_.emplace(hash, number).second) {
    block.cached = true;
    block.hash = hash;
    block.parent = parent;
    block.link = link;
    block.salt = std::string(head_salt);
    std::copy(tokens.begin(), tokens.end(), block.tokens.begin());
  }
  return link;
}

}  // namespace ballast
