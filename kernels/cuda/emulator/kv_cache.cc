#include "kernels/cuda/kv_cache.cu"  // for the emulator
