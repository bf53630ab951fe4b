// The emulated GPUs of this process: how many, their memory, their streams. CUDA's runtime API over
// them is runtime.cc; it is linked in place of the real one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/streams.h"

namespace ballast::emulator {

struct MachineOptions {
  int devices = 2;
  size_t bytes_per_device = size_t{4} << 30;
  uint64_t seed = 1;           // of every order that hardware leaves open
  int driver_version = 13000;  // as CUDA counts; 0: there is no driver
  int major = 9;               // compute capability
  int minor = 0;
};

// For a whole program: BALLAST_EMULATED_GPUS (64), _GPU_BYTES, _SEED, _DRIVER (13000), _SM (90).
MachineOptions OptionsOfEnvironment();

enum class MemoryKind : uint8_t { kPageable, kPinned, kDevice };

// What is known of a range of memory.
struct Range {
  MemoryKind kind = MemoryKind::kPageable;
  int device = 0;
  size_t bytes_left = 0;  // from the asked address to the end of its block; unknown when pageable
};

// Any thread.
class Machine {
 public:
  // The one that the runtime API acts on. Begins with the environment's options.
  static Machine& Get();
  // A new machine, for a test; nothing of the old one may be in use.
  static void Replace(const MachineOptions& options);

  explicit Machine(const MachineOptions& options);
  ~Machine();

  const MachineOptions& options() const { return options_; }
  Streams& streams() { return streams_; }

  // Poisoned memory of its own block, so that ASan sees its ends; null: there is no more of it.
  void* Allocate(MemoryKind kind, int device, size_t bytes);
  // False: it is not the begin of a block of this kind.
  bool Free(MemoryKind kind, void* memory);
  Range Find(const void* memory);
  size_t FreeBytes(int device);
  uint64_t NextSeed();

 private:
  struct Block {
    size_t bytes;
    MemoryKind kind;
    int device;
  };

  const MachineOptions options_;
  Streams streams_;
  std::mutex mutex_;
  std::map<const char*, Block> blocks_;  // by begin; guarded by mutex_, as are the two below
  std::vector<size_t> used_;             // [devices]
  uint64_t seeds_ = 0;
};

// Begins a kernel on a stream: `body` runs once per thread. What launches do on a GPU.
cudaError_t EnqueueLaunch(const char* name, const BlockShape& shape, cudaStream_t stream,
                          std::function<void()> body);

// What went wrong first in the operations of the current device, in words, or "".
std::string FaultOfDevice();

}  // namespace ballast::emulator
