#include "tests/kernels/cuda/emulator/sample_kernels.cu"
