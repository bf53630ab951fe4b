// Rows of every expert and rank since the engine started.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/balancing.h"
#include "engine/step.h"

namespace ballast {

// One thread at a time.
class LoadCounters {
 public:
  LoadCounters(const std::vector<int>& moe_layers, int experts, int ranks);

  // A step's rows; `tokens` are those of all ranks.
  void Add(const StepResult& result, int64_t tokens);

  const ExpertLoad& load() const { return load_; }  // placement_version is the caller's
  // [experts] rows of the step added last; `layer` counts MoE layers.
  const std::vector<int64_t>& last_rows(size_t layer) const { return last_[layer]; }

 private:
  ExpertLoad load_;
  std::vector<std::vector<int64_t>> last_;
};

}  // namespace ballast
