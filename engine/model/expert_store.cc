#include "engine/model/expert_store.h"

#include <algorithm>
#include <utility>

#include "engine/concat.h"
#include "engine/model/weight_arena.h"
#include "engine/model/weight_list.h"

namespace ballast {
namespace {

size_t MatrixBytes(const PackedMatrix& matrix, const Device& device) {
  return AlignUp(device.packed_bytes(matrix.type, matrix.n, matrix.k));
}

bool Fits(const ExpertBytes& need, const ExpertBytes& room) {
  return need.gate <= room.gate && need.up <= room.up && need.down <= room.down;
}

}  // namespace

ExpertBytes BytesOf(const MlpWeights& expert, const Device& device) {
  return {MatrixBytes(expert.gate, device), MatrixBytes(expert.up, device),
          MatrixBytes(expert.down, device)};
}

std::vector<std::vector<MlpWeights>> ExpertShapes(const ModelConfig& config,
                                                  const Checkpoint* checkpoint, Compute compute) {
  const Family* family = FindFamily(config.model_type);
  CHECK(family != nullptr);
  ModelWeights weights;
  const std::vector<WeightSource> list =
      ListWeights(config, ChooseLayout(*family, config, checkpoint), AllExperts(config), weights);
  for (const WeightSource& source : list) {
    const TensorView* tensor = checkpoint == nullptr ? nullptr : checkpoint->Find(source.tensor);
    if (source.matrix == nullptr) continue;
    source.matrix->type = PackedType(tensor == nullptr ? config.published_type : tensor->type,
                                     compute, source.keeps_precision);
    source.matrix->n = source.rows;
    source.matrix->k = source.cols;
  }
  std::vector<std::vector<MlpWeights>> shapes;
  for (LayerWeights& layer : weights.layers) shapes.push_back(std::move(layer.moe.slots));
  return shapes;
}

ExpertBytes LargestExpert(const ModelConfig& config, const Checkpoint* checkpoint,
                          const Device& device, Compute compute) {
  ExpertBytes largest;
  for (const std::vector<MlpWeights>& layer : ExpertShapes(config, checkpoint, compute)) {
    for (const MlpWeights& expert : layer) {
      const ExpertBytes bytes = BytesOf(expert, device);
      largest.gate = std::max(largest.gate, bytes.gate);
      largest.up = std::max(largest.up, bytes.up);
      largest.down = std::max(largest.down, bytes.down);
    }
  }
  return largest;
}

int SpareBuffers(const SlotExperts& slots, int ranks) {
  if (ranks == 1) return 0;
  size_t widest = 0;
  size_t empty = 0;
  for (const std::vector<int>& layer : slots) {
    widest = std::max(widest, layer.size());
    empty += static_cast<size_t>(std::count(layer.begin(), layer.end(), -1));
  }
  return static_cast<int>(widest + empty);
}

ExpertStore::ExpertStore(SlotExperts slots, const Device& device, ModelWeights& weights)
    : device_(device), weights_(weights), slots_(std::move(slots)), buffers_(slots_.size()) {
  for (size_t layer = 0; layer < slots_.size(); ++layer) {
    const std::vector<MlpWeights>& held = weights_.layers[layer].moe.slots;
    for (size_t slot = 0; slot < slots_[layer].size(); ++slot) {
      Buffer& buffer = buffers_[layer].emplace_back();
      if (slots_[layer][slot] < 0) continue;
      buffer = {held[slot].gate.data, held[slot].up.data, held[slot].down.data,
                BytesOf(held[slot], device_)};
    }
  }
}

ExpertStore::~ExpertStore() {
  if (memory_ != nullptr) device_.release(memory_, memory_bytes_);
}

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Create(SlotExperts slots, int spares,
                                                                 const ExpertBytes& largest,
                                                                 const Device& device,
                                                                 Stream stream,
                                                                 ModelWeights& weights) {
  std::unique_ptr<ExpertStore> store(new ExpertStore(std::move(slots), device, weights));
  if (spares == 0) return store;
  store->memory_bytes_ = static_cast<size_t>(spares) * largest.sum();
  store->memory_ = device.allocate(stream, store->memory_bytes_);
  if (store->memory_ == nullptr) {
    return absl::ResourceExhaustedError(
        Concat("spare expert buffers: no memory for ", store->memory_bytes_, " bytes"));
  }
  char* next = static_cast<char*>(store->memory_);
  for (int i = 0; i < spares; ++i, next += largest.sum()) {
    store->free_.push_back({next, next + largest.gate, next + largest.gate + largest.up, largest});
  }
  return store;
}

const MlpWeights* ExpertStore::Find(int layer, int expert) const {
  const std::vector<int>& slots = slots_[static_cast<size_t>(layer)];
  const auto found = std::find(slots.begin(), slots.end(), expert);
  if (expert < 0 || found == slots.end()) return nullptr;
  return &weights_.layers[static_cast<size_t>(layer)]
              .moe.slots[static_cast<size_t>(found - slots.begin())];
}

absl::StatusOr<MlpWeights> ExpertStore::Reserve(int layer, int expert, const MlpWeights& shape) {
  const ExpertBytes need = BytesOf(shape, device_);
  const std::lock_guard lock(mutex_);
  const auto spare = std::find_if(free_.begin(), free_.end(),
                                  [&](const Buffer& buffer) { return Fits(need, buffer.bytes); });
  if (spare == free_.end()) {
    return absl::ResourceExhaustedError(Concat("layer ", layer, ", expert ", expert, ": needs ",
                                               need.sum(), " bytes, none of ", free_.size(),
                                               " spare buffers is free and large enough"));
  }
  Reserved reserved{layer, expert, shape, *spare};
  reserved.weights.gate.data = spare->gate;
  reserved.weights.up.data = spare->up;
  reserved.weights.down.data = spare->down;
  free_.erase(spare);
  return reserved_.emplace_back(reserved).weights;
}

void ExpertStore::DropReserved() {
  const std::lock_guard lock(mutex_);
  for (const Reserved& reserved : reserved_) free_.push_back(reserved.buffer);
  reserved_.clear();
}

absl::Status ExpertStore::Adopt(int layer, std::span<const int32_t> experts) {
  std::vector<int>& slots = slots_[static_cast<size_t>(layer)];
  std::vector<Buffer>& buffers = buffers_[static_cast<size_t>(layer)];
  std::vector<MlpWeights>& held = weights_.layers[static_cast<size_t>(layer)].moe.slots;
  std::vector<Buffer> new_buffers(experts.size());
  std::vector<MlpWeights> new_weights(experts.size());
  std::vector<uint8_t> kept(slots.size(), 0);
  const std::lock_guard lock(mutex_);
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    const int expert = experts[slot];
    if (expert < 0) continue;
    const auto old = std::find(slots.begin(), slots.end(), expert);
    if (old != slots.end()) {
      const auto from = static_cast<size_t>(old - slots.begin());
      kept[from] = 1;
      new_buffers[slot] = buffers[from];
      new_weights[slot] = held[from];
      continue;
    }
    const auto arrived = std::find_if(reserved_.begin(), reserved_.end(), [&](const Reserved& r) {
      return r.layer == layer && r.expert == expert;
    });
    if (arrived == reserved_.end()) {
      return absl::FailedPreconditionError(
          Concat("layer ", layer, ": expert ", expert, " has not come to this rank"));
    }
    new_buffers[slot] = arrived->buffer;
    new_weights[slot] = arrived->weights;
  }
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (slots[slot] >= 0 && kept[slot] == 0) free_.push_back(buffers[slot]);
  }
  std::erase_if(reserved_, [&](const Reserved& r) {
    return r.layer == layer && std::find(experts.begin(), experts.end(), r.expert) != experts.end();
  });
  slots.assign(experts.begin(), experts.end());
  buffers = std::move(new_buffers);
  held = std::move(new_weights);
  return absl::OkStatus();
}

int ExpertStore::spares() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(free_.size());
}

}  // namespace ballast
