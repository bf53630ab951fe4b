#include "kernels/cuda/emulator/machine.h"

#include <cstdlib>
#include <utility>

#include "kernels/cuda/emulator/checkers.h"

namespace ballast::emulator {
namespace {

constexpr size_t kAlignment = 256;  // of cudaMalloc

uint64_t NumberOfEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::unique_ptr<Machine>& Held() {
  static std::unique_ptr<Machine> machine = std::make_unique<Machine>(OptionsOfEnvironment());
  return machine;
}

}  // namespace

MachineOptions OptionsOfEnvironment() {
  constexpr uint64_t kMostRanks = 64;  // of one process
  MachineOptions options;
  options.devices = static_cast<int>(NumberOfEnvironment("BALLAST_EMULATED_GPUS", kMostRanks));
  options.bytes_per_device =
      NumberOfEnvironment("BALLAST_EMULATED_GPU_BYTES", options.bytes_per_device);
  options.seed = NumberOfEnvironment("BALLAST_EMULATED_SEED", options.seed);
  options.driver_version = static_cast<int>(NumberOfEnvironment("BALLAST_EMULATED_DRIVER", 13000));
  const auto sm = static_cast<int>(NumberOfEnvironment("BALLAST_EMULATED_SM", 90));
  options.major = sm / 10;
  options.minor = sm % 10;
  return options;
}

Machine& Machine::Get() { return *Held(); }

void Machine::Replace(const MachineOptions& options) {
  Held() = std::make_unique<Machine>(options);
}

Machine::Machine(const MachineOptions& options)
    : options_(options),
      streams_(options.seed),
      used_(static_cast<size_t>(options.devices)),
      seeds_(options.seed) {}

Machine::~Machine() {
  for (const auto& [begin, block] : blocks_) std::free(const_cast<char*>(begin));
}

void* Machine::Allocate(MemoryKind kind, int device, size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (kind == MemoryKind::kDevice && options_.bytes_per_device - used_[device] < bytes) {
    return nullptr;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  Poison(memory, bytes);
  blocks_[static_cast<char*>(memory)] = {bytes, kind, device};
  if (kind == MemoryKind::kDevice) used_[device] += bytes;
  return memory;
}

bool Machine::Free(MemoryKind kind, void* memory) {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<char*>(memory));
  if (block == blocks_.end() || block->second.kind != kind) return false;
  if (kind == MemoryKind::kDevice) used_[block->second.device] -= block->second.bytes;
  blocks_.erase(block);
  std::free(memory);
  return true;
}

Range Machine::Find(const void* memory) {
  const std::lock_guard lock(mutex_);
  const char* const at = static_cast<const char*>(memory);
  auto block = blocks_.upper_bound(at);
  if (block == blocks_.begin()) return {};
  --block;
  const char* const end = block->first + block->second.bytes;
  if (at >= end) return {};
  return {block->second.kind, block->second.device, static_cast<size_t>(end - at)};
}

size_t Machine::FreeBytes(int device) {
  const std::lock_guard lock(mutex_);
  return options_.bytes_per_device - used_[device];
}

uint64_t Machine::NextSeed() {
  const std::lock_guard lock(mutex_);
  return ++seeds_;
}

}  // namespace ballast::emulator
