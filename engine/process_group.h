// A world whose ranks are processes, as one of them is told of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "engine/comm/rendezvous.h"

namespace ballast {

// Rank 0 is the leader: it schedules, and it alone answers clients.
struct ProcessGroup {
  int rank = 0;
  int size = 1;
  // Of this machine, for the other ranks to reach.
  std::string address = "127.0.0.1";
  // Rows and lent weights travel over NCCL from GPU to GPU, all else over TCP.
  bool nccl = false;
  uint64_t epoch = 1;                // of this world: another one after ranks were lost
  Rendezvous* rendezvous = nullptr;  // needed until all ranks are connected
  // How long connecting may take once all have joined.
  std::chrono::milliseconds connect_limit = std::chrono::minutes(1);
  // A rank that nothing was heard of for so long is lost. The same for all.
  std::chrono::milliseconds silence = std::chrono::seconds(10);
};

}  // namespace ballast
