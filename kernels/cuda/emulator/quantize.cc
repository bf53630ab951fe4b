#include "kernels/cuda/quantize.cu"  // for the emulator
