#include "engine/sizing.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ballast {
namespace {

constexpr size_t kDefaultKvBytes = size_t{1} << 30;

std::string MiB(size_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

absl::StatusOr<Compute> ParseCompute(const std::string& name) {
  if (name == "exact") return Compute::kExact;
  if (name == "bf16") return Compute::kBF16;
  return absl::InvalidArgumentError(
      absl::StrCat("--compute: found \"", name, "\", expected exact or bf16"));
}

size_t KvBlockBytes(const ModelConfig& config, Compute compute, const Device& device) {
  return device.kv_bytes(KvCacheShape(config, compute, 1)) * config.layers;
}

absl::StatusOr<EngineSizes> ResolveSizes(const EngineOptions& options, const ModelConfig& config,
                                         size_t kv_block_bytes) {
  EngineSizes sizes;
  ASSIGN_OR_RETURN(sizes.compute, ParseCompute(options.compute));
  if (options.max_context > config.max_context) {
    return absl::InvalidArgumentError(absl::StrCat("--max-context: found ", options.max_context,
                                                   ", expected at most ", config.max_context,
                                                   " (config.json: max_position_embeddings)"));
  }
  sizes.max_context = options.max_context > 0 ? options.max_context : config.max_context;
  const int64_t context_blocks = (sizes.max_context + kKvBlockTokens - 1) / kKvBlockTokens;
  if (options.kv_memory_bytes > 0) {
    sizes.kv_blocks = options.kv_memory_bytes / static_cast<int64_t>(kv_block_bytes);
    if (sizes.kv_blocks == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--kv-memory: found ", options.kv_memory_bytes, " bytes, expected at least ",
                       kv_block_bytes, " (one block of ", kKvBlockTokens, " tokens)"));
    }
  } else {
    const auto affordable =
        std::max<int64_t>(1, static_cast<int64_t>(kDefaultKvBytes / kv_block_bytes));
    sizes.kv_blocks = std::min(affordable, context_blocks * options.max_running);
  }
  sizes.kv_blocks =
      std::min<int64_t>(sizes.kv_blocks, std::numeric_limits<int32_t>::max() / kKvBlockTokens);
  sizes.kv_bytes = static_cast<size_t>(sizes.kv_blocks) * kv_block_bytes;
  sizes.max_context =
      static_cast<int32_t>(std::min<int64_t>(sizes.max_context, sizes.kv_blocks * kKvBlockTokens));
  sizes.step.rows = options.step_tokens;
  sizes.step.sequences = std::min(options.max_running, options.step_tokens);
  sizes.step.max_context = sizes.max_context;
  sizes.step.logit_rows = LogitRows(config, sizes.step.sequences);
  return sizes;
}

absl::Status CheckFits(size_t weights_bytes, size_t kv_bytes, size_t workspace_bytes,
                       size_t available, const std::string& where) {
  const size_t needed = weights_bytes + kv_bytes + workspace_bytes;
  if (needed <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the model does not fit: weights ", MiB(weights_bytes), " + KV cache ", MiB(kv_bytes),
      " + workspace ", MiB(workspace_bytes), " = ", MiB(needed), ", but ", MiB(available), " of ",
      where, " are available; --kv-memory, --max-context and --step-tokens lower the last two"));
}

}  // namespace ballast
