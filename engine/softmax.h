// Softmax over a row of logits in plain IEEE arithmetic: the same bits on every machine, which
// the C library's exp does not promise. Logits are finite, or -inf where a token has no chance.
#pragma once

#include <cstdint>
#include <span>

namespace ballast {

// exp(x) for x <= 0 within 2 units in the last place down to -87; 0 from -88 on, where floats are
// subnormal.
float ExpNonPositive(float x);

// The largest; -inf when all are or there are none.
float MaxLogit(std::span<const float> logits);

// Sum of exp(logits[i] - max): max + its logarithm is the log-sum-exp.
double SumExp(std::span<const float> logits, float max);

}  // namespace ballast
