#include "kernels/cuda/rows.cu"  // for the emulator
