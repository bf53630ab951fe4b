// Knobs of the engine: plain values. Names, help, ranges and defaults of the flags stand in
// server/options.cc, once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ballast {

struct EngineOptions {
  std::string model;              // folder
  std::string served_model_name;  // empty: the folder's name
  std::string device = "cpu";
  std::string kernels = "auto";  // auto, reference, avx2, avx512
  std::string compute = "bf16";  // exact, bf16
  std::string weights = "bf16";
  std::string communicator = "in_process";  // in_process, gloo, nccl
  int ranks = 1;                            // in all
  int machine_ranks = 0;        // a process each, so many on this machine; 0: all in this process
  std::string placement;        // file; empty: even
  int slots_per_rank = 0;       // 0: what the file says or needs, else the fewest
  int threads = 0;              // per rank; 0: one per core
  int64_t kv_memory_bytes = 0;  // 0: 1 GiB, less when the context needs less
  int max_context = 0;          // 0: the model's
  int step_tokens = 512;
  int max_running = 64;
  int max_waiting = 1024;  // requests
  int64_t max_waiting_tokens = 1 << 20;

  std::string balance = "full";  // off, observe, assign, spill, full
  double replan_interval = 10;   // s
  int64_t move_bytes_per_second = 256 << 20;
  std::string balance_state;             // file; empty: nothing is kept
  std::vector<std::string> node_labels;  // [ranks] or empty: one machine

  // For tests.
  int test_slow_rank = -1;  // whose experts take test_slowdown times as long
  double test_slowdown = 1;
  bool test_force_spills = false;
};

}  // namespace ballast
