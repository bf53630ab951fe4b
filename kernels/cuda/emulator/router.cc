#include "kernels/cuda/router.cu"  // for the emulator
