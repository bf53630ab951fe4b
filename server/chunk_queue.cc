#include "server/chunk_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/status.h"

namespace ballast {
namespace {

void Merge(v1::GenerateChunk from, v1::GenerateChunk* to) {
  // MergeFrom would replace the text, and copy what can be moved.
  std::string text = std::move(*to->mutable_text());
  text += from.text();
  to->MergeFrom(from);
  to->set_text(std::move(text));
}

}  // namespace

void ChunkQueue::Push(v1::GenerateChunk chunk) {
  const size_t bytes = chunk.ByteSizeLong();
  bytes_ += bytes;
  const auto same = std::find_if(chunks_.rbegin(), chunks_.rend(), [&](const Entry& entry) {
    return entry.chunk.index() == chunk.index();
  });
  const bool in_front_of_others = same != chunks_.rend() && same != chunks_.rbegin();
  if (same == chunks_.rend() || same->bytes + bytes > kMergedBytes ||
      (chunk.has_usage() && in_front_of_others)) {
    chunks_.push_back({std::move(chunk), bytes});
    return;
  }
  Merge(std::move(chunk), &same->chunk);
  same->bytes += bytes;
}

v1::GenerateChunk ChunkQueue::Pop() {
  CHECK(!chunks_.empty());
  v1::GenerateChunk chunk = std::move(chunks_.front().chunk);
  bytes_ -= chunks_.front().bytes;
  chunks_.pop_front();
  return chunk;
}

void ChunkQueue::Clear() {
  chunks_.clear();
  bytes_ = 0;
}

}  // namespace ballast
