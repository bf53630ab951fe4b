#include "kernels/cuda/matmul.cu"  // for the emulator
