// The experts that a rank holds, and how they change while it serves.
//
// The weights of a slot lie in a buffer. A rank has spare buffers besides: an expert that is to
// come is copied into one while steps run on the others, and takes its slot between two steps; the
// buffer of the expert that it replaces is spare from then on. So nothing waits and nothing is
// allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/model/weights.h"
#include "engine/moe/expert_weights.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// The packed weights of one expert in a contiguous block, 64-byte aligned: gate, up, down.
struct ExpertBytes {
  size_t gate = 0;
  size_t up = 0;
  size_t down = 0;
  size_t sum() const { return gate + up + down; }
};

ExpertBytes BytesOf(const MlpWeights& expert, const Device& device);

// How every expert of the checkpoint is packed: [layers][experts], data is null; dense layers have
// none. Without a checkpoint (null) all have the config's published type.
std::vector<std::vector<MlpWeights>> ExpertShapes(const ModelConfig& config,
                                                  const Checkpoint* checkpoint, Compute compute);

// What any expert of the checkpoint takes at most once it is packed.
ExpertBytes LargestExpert(const ModelConfig& config, const Checkpoint* checkpoint,
                          const Device& device, Compute compute);

// How many spare buffers a rank gets: enough to change a whole layer at once, and one for each slot
// that is empty and may be filled. None for a rank alone, whose placement cannot change.
int SpareBuffers(const SlotExperts& slots, int ranks);

// Reserve and DropReserved: one thread at a time, beside steps. Adopt: between steps. Find: by
// either, since what a step or a copy reads stays as it is until the next Adopt.
class ExpertStore {
 public:
  // `slots` says what `weights` holds, which outlives the store. RESOURCE_EXHAUSTED with the bytes.
  static absl::StatusOr<std::unique_ptr<ExpertStore>> Create(SlotExperts slots, int spares,
                                                             const ExpertBytes& largest,
                                                             const Device& device, Stream stream,
                                                             ModelWeights& weights);
  ~ExpertStore();
  ExpertStore(const ExpertStore&) = delete;
  ExpertStore& operator=(const ExpertStore&) = delete;

  // Null: it does not stand here.
  const MlpWeights* Find(int layer, int expert) const;

  // A spare buffer for an expert of the layer, shaped like `shape` (its data is ignored), for the
  // caller to fill. It waits for the Adopt that names the expert. RESOURCE_EXHAUSTED: none fits.
  absl::StatusOr<MlpWeights> Reserve(int layer, int expert, const MlpWeights& shape);
  void DropReserved();

  // The layer's slots hold `experts` from now on (-1: empty). What is new must have been reserved
  // and filled, or stand in another slot of the layer: FAILED_PRECONDITION names what is neither,
  // and nothing changes.
  absl::Status Adopt(int layer, std::span<const int32_t> experts);

  int spares() const;  // that are free

 private:
  struct Buffer {
    void* gate = nullptr;
    void* up = nullptr;
    void* down = nullptr;
    ExpertBytes bytes;  // that fit
  };
  struct Reserved {
    int layer = 0;
    int expert = 0;
    MlpWeights weights;
    Buffer buffer;
  };

  ExpertStore(SlotExperts slots, const Device& device, ModelWeights& weights);

  const Device& device_;
  ModelWeights& weights_;
  void* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  SlotExperts slots_;                         // [layers][slots]
  std::vector<std::vector<Buffer>> buffers_;  // [layers][slots] null where the slot is empty
  mutable std::mutex mutex_;
  std::vector<Buffer> free_;        // guarded by mutex_
  std::vector<Reserved> reserved_;  // guarded by mutex_
};

}  // namespace ballast
