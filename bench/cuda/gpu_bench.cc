// What the GPU's kernels must move and compute, and how long that takes an H100 at least; with a
// GPU also how long it took.
//
//   gpu_bench           shapes of DeepSeek-V3 (one of 8 GPUs that share the experts) and OLMoE
//   gpu_bench --tiny    shapes of a toy, run on emulated GPUs too: a check of this program
//
// A line per kernel: bytes of memory that it cannot avoid, bytes that its blocks ask for (L2 gives
// most of what is more), operations, the floor in microseconds and the limit that sets it. Times
// are means over calls one after another: what fits into L2 (50 MB) is read from there, and can
// beat a floor by memory.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/cuda/gpu_cases.h"
#include "bench/cuda/gpu_time.h"
#include "kernels/cuda/cuda_device.h"

namespace ballast::bench {
namespace {

constexpr int kBatches = 5;
constexpr double kBatchSeconds = 0.02;
constexpr int kMostCalls = 200;

// config.json of deepseek-ai/DeepSeek-V3 and of allenai/OLMoE-1B-7B-0924.
constexpr ModelShape kDeepSeek = {"DeepSeek-V3, 1 of 8 GPUs",
                                  7168,
                                  256,
                                  32,
                                  8,
                                  2048,
                                  128,
                                  {nullptr, DType::kBF16, 0, 1, 576, 512, true},
                                  64,
                                  128 * 128,
                                  129280};
constexpr ModelShape kOlmoe = {"OLMoE", 2048, 64,   64,
                               8,       1024, 16,   {nullptr, DType::kBF16, 0, 16, 128, 128, false},
                               128,     2048, 50304};
constexpr ModelShape kToy = {
    "toy", 96, 8, 8, 2, 48, 4, {nullptr, DType::kBF16, 0, 2, 24, 24, false}, 24, 96, 300};

constexpr StepShape kSteps[] = {{"decode of 1 sequence", 1, 1, 4096},
                                {"decode of 64 sequences", 64, 1, 4096},
                                {"prefill of 2048 tokens", 1, 2048, 4096}};
constexpr StepShape kToySteps[] = {{"decode", 3, 1, 300}, {"prefill", 2, 20, 300}};

// Of one call; the fastest of a few batches.
double Measure(const KernelCase& what, const Device& device, Stream stream) {
  GpuArena arena(device, stream);
  const std::function<void()> run = what.prepare(arena);
  const double first = std::max(1e-7, SecondsOf(device, stream, 2, run) / 2);
  const int calls = std::clamp(static_cast<int>(kBatchSeconds / first), 1, kMostCalls);
  double best = first;
  for (int i = 0; i < kBatches; ++i) {
    best = std::min(best, SecondsOf(device, stream, calls, run) / calls);
  }
  return best;
}

void PrintHead(const char* model, const char* step, DType compute, bool measured) {
  std::printf("\n%s, %s, %s\n", model, step, compute == DType::kBF16 ? "bf16" : "exact");
  std::printf("  %-14s %-34s %9s %9s %9s %9s  %-12s%s\n", "kernel", "shape", "MB", "MB asked",
              "GFLOP", "floor us", "limit", measured ? "        us  floor/us" : "");
}

void Print(const KernelCase& what) {
  const KernelWork& work = what.work;
  const Floor floor = FloorOf(work, kH100Sxm);
  std::printf("  %-14s %-34s %9.2f %9.2f %9.3f %9.2f  %-12s", what.name.c_str(), what.shape.c_str(),
              work.bytes / 1e6, work.traffic / 1e6, (work.f32_flops + work.bf16_flops) / 1e9,
              floor.seconds * 1e6, floor.limit);
}

// `device`: null measures nothing.
void BenchStep(const ModelShape& model, const StepShape& step, DType compute,
               const Device* device) {
  PrintHead(model.name, step.name, compute, device != nullptr);
  for (const KernelCase& what : CasesOf(model, step, compute)) {
    Print(what);
    if (device != nullptr) {
      const Stream stream = device->create_stream(0, 1);
      const double seconds = Measure(what, *device, stream);
      device->destroy_stream(stream);
      std::printf("%10.2f %8.0f%%", seconds * 1e6,
                  100 * FloorOf(what.work, kH100Sxm).seconds / seconds);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  const bool tiny = argc == 2 && std::strcmp(argv[1], "--tiny") == 0;
  if (argc > 1 && !tiny) {
    std::fprintf(stderr, "usage: gpu_bench [--tiny]\n");
    return 2;
  }
  const GpuSearch& search = FindGpus();
  const Device* device = search.device;
  if (device == nullptr) {
    std::printf("floors only: %s\n", search.problem.c_str());
  } else if (search.gpus[0].find("emulated") != std::string::npos && !tiny) {
    std::printf("floors only: the GPU is emulated\n");
    device = nullptr;
  } else {
    std::printf("GPU 0: %s\n", search.gpus[0].c_str());
  }
  std::printf("floors: NVIDIA H100 SXM, %.2f TB/s, FP32 %.0f TFLOP/s, bf16 %.0f TFLOP/s\n",
              kH100Sxm.bytes_per_second / 1e12, kH100Sxm.f32_flops_per_second / 1e12,
              kH100Sxm.bf16_flops_per_second / 1e12);
  for (const DType compute : {DType::kBF16, DType::kF32}) {
    if (tiny) {
      for (const StepShape& step : kToySteps) BenchStep(kToy, step, compute, device);
      continue;
    }
    for (const ModelShape& model : {kDeepSeek, kOlmoe}) {
      for (const StepShape& step : kSteps) BenchStep(model, step, compute, device);
    }
  }
  return 0;
}

}  // namespace
}  // namespace ballast::bench

int main(int argc, char** argv) { return ballast::bench::Main(argc, argv); }
