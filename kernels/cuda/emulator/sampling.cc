#include "kernels/cuda/sampling.cu"  // for the emulator
