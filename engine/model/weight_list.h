// Which tensors a model needs, in the shapes they must have, and where each part of them goes. The
// loader, the memory plan and the parameter counts walk this one list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/config.h"
#include "engine/model/families/family.h"
#include "engine/model/weights.h"

namespace ballast {

// A matrix inside a checkpoint's tensor, or a whole vector. Strides and offset count elements.
struct WeightSource {
  std::string tensor;          // its name in the checkpoint
  std::vector<int64_t> shape;  // of the whole tensor, as the checkpoint must have it
  int64_t offset = 0;
  int64_t rows = 0;
  int64_t cols = 0;  // of a vector 1
  int64_t row_stride = 0;
  int64_t col_stride = 1;
  bool keeps_precision = false;  // routers: not rounded by Compute::kBF16
  // One of the two is set.
  PackedMatrix* matrix = nullptr;
  const float** vector = nullptr;
};

// How this checkpoint names its experts' tensors: the first layout of the family whose tensors
// exist, by name and never by shape. Without a checkpoint the family's usual one.
const ExpertNames& ChooseLayout(const Family& family, const ModelConfig& config,
                                const Checkpoint* checkpoint);

// Sizes `weights` and lists what fills it, parts of one tensor next to each other where they lie so
// in the file. The list points into `weights`, which must not be resized. Layers past
// num_hidden_layers (multi-token prediction) and a tied lm_head are not in it.
std::vector<WeightSource> ListWeights(const ModelConfig& config, const ExpertNames& names,
                                      const SlotExperts& slot_experts, ModelWeights& weights);

// Every expert in its own slot, as one rank alone holds them.
SlotExperts AllExperts(const ModelConfig& config);

// What a tensor of `type` is packed as.
DType PackedType(DType type, Compute compute, bool keeps_precision);

}  // namespace ballast
