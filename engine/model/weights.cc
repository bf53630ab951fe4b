#include "engine/model/weights.h"

#include <bit>
#include <cstring>
#include <optional>

#include "engine/concat.h"
#include "engine/model/finite.h"
#include "engine/model/weight_arena.h"
#include "engine/model/weight_list.h"
#include "engine/synchronize.h"

namespace ballast {
namespace {

// The element of a possibly unaligned tensor as float.
float ElementAt(const TensorView& tensor, int64_t index) {
  const char* at =
      static_cast<const char*>(tensor.data) + static_cast<size_t>(index) * SizeOf(tensor.type);
  if (tensor.type == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  if (tensor.type == DType::kBF16) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 31u;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) {
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  }
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -subnormal : subnormal;
}

// Fills one arena from one checkpoint.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const Device& device, Stream stream, Compute compute)
      : checkpoint_(checkpoint), device_(device), stream_(stream), compute_(compute) {}

  absl::Status Allocate(size_t bytes, ModelWeights& weights);
  absl::Status Load(const WeightSource& source);

 private:
  void Pack(const WeightSource& source, const TensorView& tensor, void* place);
  void Upload(const WeightSource& source, const TensorView& tensor, void* place);

  const Checkpoint& checkpoint_;
  const Device& device_;
  Stream stream_;
  Compute compute_;
  char* next_ = nullptr;
  std::vector<float> staging_;
};

absl::Status Loader::Allocate(size_t bytes, ModelWeights& weights) {
  void* memory = device_.allocate(stream_, bytes);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(
        Concat("no memory for the weights: ", bytes, " bytes on device ", device_.name));
  }
  weights.memory.emplace_back(
      memory, [release = device_.release, bytes](void* data) { release(data, bytes); });
  weights.bytes = bytes;
  next_ = static_cast<char*>(memory);
  return absl::OkStatus();
}

void Loader::Pack(const WeightSource& source, const TensorView& tensor, void* place) {
  HostMatrix in;
  in.data = static_cast<const char*>(tensor.data) +
            static_cast<size_t>(source.offset) * SizeOf(tensor.type);
  in.type = tensor.type;
  in.rows = source.rows;
  in.cols = source.cols;
  in.row_stride = source.row_stride;
  in.col_stride = source.col_stride;
  PackedMatrix out;
  out.data = place;
  out.type = PackedType(tensor.type, compute_, source.keeps_precision);
  out.n = source.rows;
  out.k = source.cols;
  device_.pack(stream_, in, out);
  *source.matrix = out;
}

void Loader::Upload(const WeightSource& source, const TensorView& tensor, void* place) {
  staging_.resize(static_cast<size_t>(source.rows));
  for (int64_t i = 0; i < source.rows; ++i) {
    staging_[static_cast<size_t>(i)] = ElementAt(tensor, i);
  }
  device_.upload(stream_, place, staging_.data(), staging_.size() * sizeof(float));
  *source.vector = static_cast<const float*>(place);
}

absl::Status Loader::Load(const WeightSource& source) {
  ASSIGN_OR_RETURN(const TensorView* tensor, checkpoint_.Require(source.tensor, source.shape));
  if (const std::optional<int64_t> odd = FirstNotFinite(*tensor, source)) {
    return absl::InvalidArgumentError(Concat(checkpoint_.FileOf(*tensor), ": ", source.tensor,
                                             " holds NaN or infinity at element ", *odd,
                                             ", expected finite numbers"));
  }
  void* place = next_;
  next_ += PlacedBytes(source, tensor->type, device_, compute_);
  if (source.vector != nullptr) {
    Upload(source, *tensor, place);
  } else {
    Pack(source, *tensor, place);
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const Checkpoint& checkpoint, const std::vector<WeightSource>& list) {
  for (const WeightSource& source : list) {
    RETURN_IF_ERROR(checkpoint.Require(source.tensor, source.shape).status());
  }
  return absl::OkStatus();
}

// Bytes of the checkpoint that one source reads.
size_t ReadBytes(const Checkpoint& checkpoint, const WeightSource& source) {
  const TensorView* tensor = checkpoint.Find(source.tensor);
  return tensor == nullptr ? 0
                           : static_cast<size_t>(source.rows * source.cols) * SizeOf(tensor->type);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(
    const Checkpoint& checkpoint, const ModelConfig& config, const SlotExperts& slot_experts,
    const Device& device, Stream stream, Compute compute,
    const std::function<void(size_t done, size_t total)>& progress) {
  // The pages of a fused tensor are given back in pieces of this size: it may be gigabytes.
  constexpr size_t kDiscardBytes = size_t{64} << 20;
  auto weights = std::make_unique<ModelWeights>();
  const ExpertNames& names = ChooseLayout(checkpoint.family(), config, &checkpoint);
  const std::vector<WeightSource> list = ListWeights(config, names, slot_experts, *weights);
  // Before anything is allocated: a bad file should not cost minutes of loading.
  RETURN_IF_ERROR(CheckAll(checkpoint, list));
  Loader loader(checkpoint, device, stream, compute);
  RETURN_IF_ERROR(loader.Allocate(
      ArenaBytes(list, &checkpoint, config.published_type, device, compute), *weights));

  size_t total = 0;
  for (const WeightSource& source : list) total += ReadBytes(checkpoint, source);
  size_t done = 0;
  size_t held = 0;  // bytes read and not given back of the current tensor
  for (size_t i = 0; i < list.size(); ++i) {
    RETURN_IF_ERROR(loader.Load(list[i]));
    const size_t bytes = ReadBytes(checkpoint, list[i]);
    done += bytes;
    held += bytes;
    const bool last = i + 1 == list.size() || list[i + 1].tensor != list[i].tensor;
    if (last || held >= kDiscardBytes) {
      RETURN_IF_ERROR(Synchronize(device, stream));
      checkpoint.Discard(*checkpoint.Find(list[i].tensor));
      held = 0;
    }
    if (progress) progress(done, total);
  }
  RETURN_IF_ERROR(Synchronize(device, stream));
  if (config.tied_embeddings) weights->lm_head = weights->embedding;
  return weights;
}

}  // namespace ballast
