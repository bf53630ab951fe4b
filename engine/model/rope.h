// Cosines and sines of a step's positions.
#pragma once

#include <cstdint>
#include <span>

#include "engine/model/config.h"

namespace ballast {

// out [positions, dim]: dim/2 cosines, then dim/2 sines, of float(position) * inverse[i], times the
// magnitude: transformers' float32 arithmetic. Sine and cosine are our own, so that ranks on
// different processors agree to the bit. Angles below 2^20.
void ComputeCosSin(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                   float* out);

}  // namespace ballast
