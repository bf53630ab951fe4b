#include "kernels/cuda/attention_merge.cu"  // for the emulator
