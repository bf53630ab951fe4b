// From a tile of logits on the device to tokens and, for those who asked, log-probabilities. Tokens
// are drawn on the device (kernels/sampling.h); only logits that are to be scored come to the host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/logprobs.h"
#include "engine/model/workspace.h"
#include "engine/status.h"
#include "engine/step.h"
#include "kernels/device.h"

namespace ballast {

// The host's side of a tile, reused so that the step loop does not allocate.
struct SampleStaging {
  std::vector<SampleParameters> rows;  // of the tile; ranges index what follows
  std::vector<TokenBias> bias;
  std::vector<int32_t> banned;
  std::vector<TokenCount> history;
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // [rows that are scored, vocab]
  LogprobScratch scratch;
};

// Answers batch.samples[begin, begin + sampled.size()), whose logits are the rows of
// buffers.logits from the first on; overwrites those. The error is the device's.
absl::Status SampleTile(const Device& device, Stream stream, const Workspace& buffers,
                        const RankBatch& batch, int64_t begin, SampleStaging& staging,
                        std::span<Sampled> sampled);

}  // namespace ballast
