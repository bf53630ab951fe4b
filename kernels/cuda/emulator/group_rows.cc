#include "kernels/cuda/group_rows.cu"  // for the emulator
