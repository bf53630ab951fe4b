#include "tests/kernels/cuda/emulator/faulty_kernels.cu"
