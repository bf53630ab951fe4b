#include "engine/model/weight_arena.h"

namespace ballast {

size_t PlacedBytes(const WeightSource& source, DType type, const Device& device, Compute compute) {
  const size_t bytes = source.matrix != nullptr
                           ? device.packed_bytes(PackedType(type, compute, source.keeps_precision),
                                                 source.rows, source.cols)
                           : static_cast<size_t>(source.rows) * sizeof(float);
  return AlignUp(bytes);
}

size_t ArenaBytes(const std::vector<WeightSource>& list, const Checkpoint* checkpoint,
                  DType fallback, const Device& device, Compute compute) {
  size_t bytes = 0;
  for (const WeightSource& source : list) {
    const TensorView* tensor = checkpoint == nullptr ? nullptr : checkpoint->Find(source.tensor);
    bytes += PlacedBytes(source, tensor == nullptr ? fallback : tensor->type, device, compute);
  }
  return bytes;
}

}  // namespace ballast
