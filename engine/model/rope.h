// Cosines and sines of a step's positions.
#pragma once

#include <cstdint>
#include <span>

#include "engine/model/config.h"

namespace ballast {

// out [positions, dim]: dim/2 cosines, then dim/2 sines, of float(position) * inverse[i], times the
// magnitude: transformers' float32 arithmetic. Sine and cosine are our own, so that ranks on
// different processors agree to the bit. They are off by less than 3e-14 for angles below 2^22 and
// by less than 1e-7 below 2^30, the largest position that a config.json may ask for.
void ComputeCosSin(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                   float* out);

}  // namespace ballast
