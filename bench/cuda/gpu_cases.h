// Kernels at the shapes that a step of a model gives them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda/gpu_arena.h"
#include "bench/cuda/kernel_work.h"

namespace ballast::bench {

// One layer of a model, as one GPU has it.
struct ModelShape {
  const char* name;
  int64_t hidden;
  int64_t experts;      // of the layer
  int64_t own_experts;  // on this GPU
  int64_t top_k;
  int64_t expert_width;
  int64_t heads;
  KvCache cache;  // shape alone; the type is ignored
  int64_t rotary_dim;
  int64_t attended_dim;  // what the heads' outputs are projected from
  int64_t vocab;
};

// The tokens of a step on this GPU; as many rows come to its experts as its tokens send away.
struct StepShape {
  const char* name;
  int64_t sequences;
  int64_t rows;  // of each
  int64_t keys;  // of each, the rows included
};

// One call of a verb. `prepare` takes memory and answers what calls it.
struct KernelCase {
  std::string name;
  std::string shape;
  KernelWork work;
  std::function<std::function<void()>(GpuArena& arena)> prepare;
};

// All of a layer and of the model's ends. Activations and KV in `compute`: bf16, or f32 as with
// --compute exact; weights in bf16.
std::vector<KernelCase> CasesOf(const ModelShape& model, const StepShape& step, DType compute);

}  // namespace ballast::bench
