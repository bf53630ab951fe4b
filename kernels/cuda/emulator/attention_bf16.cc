#include "kernels/cuda/attention_bf16.cu"  // for the emulator
