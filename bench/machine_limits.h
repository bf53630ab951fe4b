// What this machine can do at most, measured now: the denominators of every share we print.
#pragma once

#include "kernels/cpu/threads.h"

namespace ballast::bench {

struct MachineLimits {
  double f32_gflops = 0;   // fused multiply-adds on the widest registers
  double bf16_gflops = 0;  // vdpbf16ps, or f32_gflops without it
  double read_gbps = 0;    // reading memory that no cache holds
};

// Seconds on a clock that suits `threads`: with one, its processor time, so that other processes on
// the machine disturb less; with more, time on the wall.
double Now(int threads);

// With all threads of the pool; takes about a second.
MachineLimits MeasureMachine(ThreadPool& pool);

}  // namespace ballast::bench
