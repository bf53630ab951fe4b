// Ranks as threads that meet in memory and talk over TCP on this machine.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "engine/comm/gloo_mesh.h"
#include "engine/comm/memory_rendezvous.h"

namespace ballast::test {

// Runs `body` as rank 0 .. ranks-1, each in a thread of its own.
inline void RunMeeting(int ranks, const std::function<void(const Meeting&)>& body) {
  MemoryRendezvous rendezvous;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    Meeting meeting;
    meeting.rank = rank;
    meeting.size = ranks;
    meeting.rendezvous = &rendezvous;
    threads.emplace_back([meeting, &body] { body(meeting); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace ballast::test
