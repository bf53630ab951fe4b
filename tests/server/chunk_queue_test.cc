#include "server/chunk_queue.h"

#include <string>

#include <gtest/gtest.h>

namespace ballast {
namespace {

v1::GenerateChunk Chunk(uint32_t index, const std::string& text, uint32_t token) {
  v1::GenerateChunk chunk;
  chunk.set_request_id("id");
  chunk.set_index(index);
  chunk.set_text(text);
  chunk.add_token_ids(token);
  return chunk;
}

TEST(ChunkQueue, ChunksOfOneOutputThatWaitAreMerged) {
  ChunkQueue queue;
  v1::GenerateChunk first = Chunk(0, "a", 1);
  first.add_prompt_logprobs()->set_token_id(9);
  queue.Push(first);
  queue.Push(Chunk(0, "b", 2));
  v1::GenerateChunk last = Chunk(0, "", 3);
  last.set_finish_reason(v1::FINISH_REASON_LENGTH);
  last.mutable_usage()->set_prompt_tokens(4);
  queue.Push(last);
  const v1::GenerateChunk merged = queue.Pop();
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0u);
  EXPECT_EQ(merged.request_id(), "id");
  EXPECT_EQ(merged.text(), "ab");
  ASSERT_EQ(merged.token_ids_size(), 3);
  EXPECT_EQ(merged.token_ids(2), 3u);
  EXPECT_EQ(merged.prompt_logprobs_size(), 1);
  EXPECT_EQ(merged.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(merged.usage().prompt_tokens(), 4u);
}

TEST(ChunkQueue, OutputsAreNotMixed) {
  ChunkQueue queue;
  queue.Push(Chunk(0, "a", 1));
  queue.Push(Chunk(1, "x", 2));
  queue.Push(Chunk(0, "b", 3));
  queue.Push(Chunk(1, "y", 4));
  EXPECT_EQ(queue.Pop().text(), "ab");
  EXPECT_EQ(queue.Pop().text(), "xy");
  EXPECT_TRUE(queue.empty());
}

TEST(ChunkQueue, TheChunkWithUsageStaysTheLast) {
  ChunkQueue queue;
  queue.Push(Chunk(0, "a", 1));
  queue.Push(Chunk(1, "x", 2));
  v1::GenerateChunk last = Chunk(0, "b", 3);
  last.mutable_usage();
  queue.Push(last);
  EXPECT_FALSE(queue.Pop().has_usage());
  EXPECT_FALSE(queue.Pop().has_usage());
  EXPECT_TRUE(queue.Pop().has_usage());
}

TEST(ChunkQueue, MergingStopsAtALimit) {
  ChunkQueue queue;
  const std::string large(ChunkQueue::kMergedBytes / 2, 'a');
  for (uint32_t i = 0; i < 6; ++i) queue.Push(Chunk(0, large, i));
  uint32_t token = 0;
  int chunks = 0;
  while (!queue.empty()) {
    const v1::GenerateChunk chunk = queue.Pop();
    EXPECT_LE(chunk.ByteSizeLong(), ChunkQueue::kMergedBytes);
    for (const uint32_t id : chunk.token_ids()) EXPECT_EQ(id, token++);
    ++chunks;
  }
  EXPECT_EQ(token, 6u);
  EXPECT_EQ(chunks, 6);  // two halves and their heads are more than the limit
}

TEST(ChunkQueue, BytesCountWhatWaits) {
  ChunkQueue queue;
  queue.Push(Chunk(0, std::string(1000, 'a'), 1));
  EXPECT_GE(queue.bytes(), 1000u);
  queue.Push(Chunk(1, std::string(1000, 'b'), 1));
  EXPECT_GE(queue.bytes(), 2000u);
  queue.Pop();
  EXPECT_LT(queue.bytes(), 2000u);
  queue.Clear();
  EXPECT_EQ(queue.bytes(), 0u);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace ballast
