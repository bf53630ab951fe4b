#include "engine/checkpoint/fingerprint.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/checkpoint/safetensors.h"

namespace ballast {
namespace {

// Each sample may cost a page from disk: 4 of up to 1024 tensors are a second of a slow one's time.
constexpr size_t kSampledTensors = 1024;
constexpr size_t kSamples = 4;
constexpr size_t kSampleBytes = 256;

// Begin, end and the places between.
uint64_t HashSamples(const TensorView& tensor, uint64_t hash) {
  const std::string_view bytes(static_cast<const char*>(tensor.data), tensor.bytes);
  const size_t last = bytes.size() - std::min(bytes.size(), kSampleBytes);
  for (size_t i = 0; i < kSamples; ++i) {
    hash = HashBytes(bytes.substr(last * i / (kSamples - 1), kSampleBytes), hash);
  }
  return hash;
}

}  // namespace

uint64_t HashBytes(std::string_view bytes, uint64_t seed) {
  constexpr uint64_t kPrime = 0x100000001b3;
  for (const char c : bytes) seed = (seed ^ static_cast<unsigned char>(c)) * kPrime;
  return seed;
}

absl::StatusOr<std::string> Fingerprint(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(
      const std::string config,
      ReadSmallFile(absl::StrCat(checkpoint.folder(), "/config.json"), kMaxConfigBytes));
  uint64_t hash = HashBytes(config, kHashSeed);
  const size_t step = checkpoint.tensors().size() / kSampledTensors + 1;
  size_t number = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    hash =
        HashBytes(absl::StrCat(name, " ", NameOf(tensor.type), " ", ShapeText(tensor.shape)), hash);
    if (number++ % step == 0) hash = HashSamples(tensor, hash);
  }
  return absl::StrCat(absl::Hex(hash, absl::kZeroPad16));
}

}  // namespace ballast
