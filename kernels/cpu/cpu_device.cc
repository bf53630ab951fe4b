#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast {
namespace {

void DestroyStream(Stream stream) { delete &StreamOf(stream); }

void CopyBytes(Stream, void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

// Every verb has finished when it returns.
const char* Synchronize(Stream) { return nullptr; }

void* Allocate(Stream, size_t bytes) { return AllocateMemory(bytes); }

// A kernel set is what a stream carries; the verbs are the same for all.
Device MakeDevice(const char* kernels, Stream (*create_stream)(int unit, int threads)) {
  return {
      .name = "cpu",
      .kernels = kernels,
      .host_memory = true,
      .units = [] { return 0; },
      .available_memory = [](int) { return AvailableMemory(); },
      .create_stream = create_stream,
      .destroy_stream = DestroyStream,
      .allocate = Allocate,
      .release = FreeMemory,
      .upload = CopyBytes,
      .download = CopyBytes,
      .copy = CopyBytes,
      .synchronize = Synchronize,
      .await_downloads = Synchronize,
      .replay = [](Stream, uint64_t) { return false; },
      .end_piece = [](Stream) {},
      .packed_bytes = cpu::PackedBytes,
      .pack = cpu::Pack,
      .embed = cpu::Embed,
      .rms_norm = cpu::RmsNorm,
      .convert = cpu::Convert,
      .clamp = cpu::Clamp,
      .rope = cpu::Rope,
      .matmul = cpu::Matmul,
      .gate_up = cpu::GateUp,
      .kv_bytes = cpu::KvBytes,
      .write_kv = cpu::WriteKv,
      .attention = cpu::Attention,
      .route = cpu::Route,
      .copy_rows = cpu::CopyRows,
      .combine = cpu::Combine,
      .run_experts = cpu::RunExperts,
      .sample = cpu::Sample,
  };
}

template <const InnerLoops& loops>
const Device* DeviceFor() {
  static const Device device = MakeDevice(loops.name, [](int /*unit*/, int threads) {
    return Stream{new CpuStream(loops, std::max(1, threads))};
  });
  return &device;
}

// __builtin_cpu_supports asks the operating system as well as the processor.
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool HasAvx512Bf16() { return HasAvx512() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace

const Device* FindCpuDevice(std::string_view kernels) {
  if (kernels == "auto") kernels = HasAvx512() ? "avx512" : HasAvx2() ? "avx2" : "reference";
  if (kernels == "reference") return DeviceFor<kReferenceLoops>();
  if (kernels == "avx2" && HasAvx2()) return DeviceFor<kAvx2Loops>();
  if (kernels == "avx512" && HasAvx512Bf16()) return DeviceFor<kAvx512Bf16Loops>();
  if (kernels.starts_with("avx512") && HasAvx512()) {
    if (kernels == "avx512" || kernels == "avx512-nobf16") return DeviceFor<kAvx512Loops>();
  }
  return nullptr;
}

const char* CpuKernelSets() {
  return HasAvx512() ? "reference, avx2, avx512" : HasAvx2() ? "reference, avx2" : "reference";
}

}  // namespace ballast
