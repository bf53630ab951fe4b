// Chunks of one stream that wait for the wire: a pure queue, no lock, no clock.
#pragma once

#include <cstddef>
#include <deque>

#include "ballast/v1/text_generation.pb.h"

namespace ballast {

// Chunks of one output leave in the order they came; while they wait they are merged, so that a
// reader that lags gets few large chunks rather than many small ones. The chunk with usage stays
// the last. Merging stops at kMergedBytes: clients refuse messages above 4 MiB by default.
class ChunkQueue {
 public:
  static constexpr size_t kMergedBytes = 1 << 20;

  void Push(v1::GenerateChunk chunk);
  v1::GenerateChunk Pop();  // the oldest; not when empty
  bool empty() const { return chunks_.empty(); }
  size_t bytes() const { return bytes_; }  // of all, serialised, nearly
  void Clear();

 private:
  struct Entry {
    v1::GenerateChunk chunk;
    size_t bytes = 0;
  };
  std::deque<Entry> chunks_;
  size_t bytes_ = 0;
};

}  // namespace ballast
