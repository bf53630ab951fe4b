// The emulated NCCL communicators of this process: which ranks met, and what each is at. NCCL's API
// over them is nccl.cc.
#pragma once

#include <nccl.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/streams.h"
#include "kernels/cuda/emulator/transfers.h"

namespace ballast::emulator {

// Ranks that are to become, or are, one communicator. Any thread.
class Clique {
 public:
  explicit Clique(int size) : transfers_(size), size_(size), devices_(size, -1) {}

  int size() const { return size_; }
  Transfers& transfers() { return transfers_; }

  // A rank comes, which takes the clique for one of `size`. What does not fit breaks it for all.
  void Join(int rank, int size, int device);
  // ncclInProgress until all have come; `why` says what is wrong.
  ncclResult_t Met(std::string& why);
  // A rank has nothing more to send; true when all have said so.
  bool Finalize(int rank);
  // What those that are left become when `excluded` are gone. All of them say the same.
  std::shared_ptr<Clique> Shrink(const std::set<int>& excluded, int rank);

 private:
  void Break(const std::string& why);
  void BreakLocked(const std::string& why);

  Transfers transfers_;
  const int size_;
  std::mutex mutex_;
  std::vector<int> devices_;  // [size], -1: has not come; guarded by mutex_, as are all below
  std::string fault_;
  std::set<int> finalized_;
  std::map<std::set<int>, std::shared_ptr<Clique>> shrinking_;  // by who is excluded
  std::map<int, std::set<int>> excluded_by_;                    // what ranks said
};

// A rank's communicator, non-blocking.
struct Communicator {
  Communicator(std::shared_ptr<Clique> its_clique, int its_rank, int its_device)
      : clique(std::move(its_clique)), rank(its_rank), device(its_device) {}

  // Begins something that later polls find done. Under `mutex`.
  void Start(std::function<ncclResult_t()> its_progress);
  // What it is at: what was started goes on here, at a poll drawn at random, so that who does not
  // poll finds nothing done. Under `mutex`.
  ncclResult_t Poll();
  // Whether work of it may still be on its stream. Under `mutex`.
  bool Busy() const { return last != nullptr && !last->over; }

  const std::shared_ptr<Clique> clique;
  const int rank;
  const int device;
  std::mutex mutex;  // of all below
  std::string fault;
  Stream* stream = nullptr;        // of its last exchange
  std::shared_ptr<Exchange> last;  // null: none yet
  bool finalized = false;
  bool revoked = false;

 private:
  ncclResult_t result_ = ncclSuccess;
  std::function<ncclResult_t()> progress_;
  int polls_left_ = 0;
};

// Handles that are given out, so that a stale one is an error and no crash. Any thread.
class Communicators {
 public:
  static Communicators& Get();

  ncclUniqueId NewId();
  // The clique of an id; null: no such id was given out. The first to come says its size.
  std::shared_ptr<Clique> CliqueOf(const ncclUniqueId& id, int size);

  ncclComm_t Add(std::shared_ptr<Communicator> communicator);
  std::shared_ptr<Communicator> Find(ncclComm_t handle);
  bool Remove(ncclComm_t handle);
  // Others of a device that may have work on it.
  bool AnyBusy(int device);
  // How many are not destroyed yet.
  size_t Count();

 private:
  std::mutex mutex_;
  uint64_t ids_ = 0;                                     // guarded by mutex_, as are all below
  std::map<uint64_t, std::shared_ptr<Clique>> cliques_;  // null: nobody has come
  std::map<const void*, std::shared_ptr<Communicator>> held_;
};

}  // namespace ballast::emulator
