#include "kernels/cuda/attention.cu"  // for the emulator
