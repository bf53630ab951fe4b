#include "engine/join_facts.h"

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/fingerprint.h"
#include "engine/prepare.h"
#include "engine/synchronize.h"

namespace ballast {
namespace {

// Packs a matrix of known numbers and hashes what comes out: devices that lay weights out
// differently cannot lend each other experts.
std::string PackingOf(const Device& device) {
  constexpr int64_t kRows = 37;  // not a whole number of any panel
  constexpr int64_t kCols = 48;
  std::array<float, kRows * kCols> numbers;
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  const Stream stream = device.create_stream(/*unit=*/0, /*threads=*/1);
  uint64_t hash = kHashSeed;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const size_t bytes = device.packed_bytes(type, kRows, kCols);
    void* data = device.allocate(stream, bytes);
    if (data == nullptr) continue;
    std::string host(bytes, '\0');
    device.upload(stream, data, host.data(), bytes);
    device.pack(stream, {numbers.data(), DType::kF32, kRows, kCols, kCols, 1},
                {data, type, kRows, kCols});
    device.download(stream, host.data(), data, bytes);
    if (!Synchronize(device, stream).ok()) host.clear();
    hash = HashBytes(host, hash);
    device.release(data, bytes);
  }
  device.destroy_stream(stream);
  return absl::StrCat(absl::Hex(hash, absl::kZeroPad16));
}

}  // namespace

absl::StatusOr<std::vector<JoinFact>> ReadJoinFacts(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const PreparedModel model, PrepareModel(options));
  RETURN_IF_ERROR(model.checkpoint.status());
  ASSIGN_OR_RETURN(const std::string checkpoint, Fingerprint(**model.checkpoint));
  return std::vector<JoinFact>{
      {"checkpoint", checkpoint},
      {"device", options.device},
      {"--communicator", options.communicator},
      {"kernels", model.device->kernels},
      {"packing", PackingOf(*model.device)},
      {"--compute", options.compute},
      {"--weights", options.weights},
      {"--max-context", absl::StrCat(model.sizes.max_context)},
      {"--step-tokens", absl::StrCat(options.step_tokens)},
      {"--max-running", absl::StrCat(options.max_running)},
      {"--kv-memory", absl::StrCat(model.sizes.kv_bytes, " bytes")},
  };
}

}  // namespace ballast
