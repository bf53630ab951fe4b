// Weights that are not numbers: NaN and infinities, which no published checkpoint means.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/weight_list.h"

namespace ballast {

// Where the first such element of the part that `source` reads stands in the tensor, in elements
// from its begin; "first" in the order of memory within a row, then of rows.
std::optional<int64_t> FirstNotFinite(const TensorView& tensor, const WeightSource& source);

}  // namespace ballast
