#include "kernels/cuda/matmul_bf16.cu"  // for the emulator
