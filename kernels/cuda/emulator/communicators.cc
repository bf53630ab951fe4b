#include "kernels/cuda/emulator/communicators.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/emulator/machine.h"

namespace ballast::emulator {

void Clique::Break(const std::string& why) {
  const std::lock_guard lock(mutex_);
  BreakLocked(why);
}

void Clique::BreakLocked(const std::string& why) {
  if (fault_.empty()) fault_ = why;
}

void Clique::Join(int rank, int size, int device) {
  const std::lock_guard lock(mutex_);
  const std::string who = "rank " + std::to_string(rank);
  if (size != size_) {
    BreakLocked(who + " says there are " + std::to_string(size) + " ranks, another one said " +
                std::to_string(size_));
    return;
  }
  if (devices_[rank] >= 0) {
    BreakLocked(who + " came twice");
    return;
  }
  const auto same = std::find(devices_.begin(), devices_.end(), device);
  if (same != devices_.end()) {
    BreakLocked(who + " and rank " + std::to_string(same - devices_.begin()) + " use device " +
                std::to_string(device) + " both");
  }
  devices_[rank] = device;
}

ncclResult_t Clique::Met(std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!fault_.empty()) {
    why = fault_;
    return ncclInvalidUsage;
  }
  const bool all = std::count(devices_.begin(), devices_.end(), -1) == 0;
  return all ? ncclSuccess : ncclInProgress;
}

bool Clique::Finalize(int rank) {
  const std::lock_guard lock(mutex_);
  finalized_.insert(rank);
  return static_cast<int>(finalized_.size()) == size_;
}

std::shared_ptr<Clique> Clique::Shrink(const std::set<int>& excluded, int rank) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Clique>& child = shrinking_[excluded];
  if (child == nullptr) child = std::make_shared<Clique>(size_ - static_cast<int>(excluded.size()));
  // Ranks that exclude others await each other in vain.
  for (const auto& [other, its_excluded] : excluded_by_) {
    if (its_excluded == excluded) continue;
    const std::string why =
        "ranks " + std::to_string(other) + " and " + std::to_string(rank) + " exclude others";
    if (!excluded.contains(other)) child->Break(why);
    if (!its_excluded.contains(rank)) shrinking_[its_excluded]->Break(why);
  }
  excluded_by_[rank] = excluded;
  return child;
}

void Communicator::Start(std::function<ncclResult_t()> its_progress) {
  result_ = ncclInProgress;
  progress_ = std::move(its_progress);
  polls_left_ = static_cast<int>(Machine::Get().NextSeed() * 2654435761u % 7 % 3);
}

ncclResult_t Communicator::Poll() {
  if (result_ == ncclInProgress && polls_left_-- <= 0) {
    polls_left_ = 0;
    result_ = progress_();
    if (result_ != ncclInProgress) progress_ = nullptr;
  }
  if (result_ == ncclSuccess && last != nullptr && last->over && !last->fault.empty()) {
    fault = last->fault;
    result_ = ncclInvalidUsage;
  }
  return result_;
}

Communicators& Communicators::Get() {
  static Communicators communicators;
  return communicators;
}

ncclUniqueId Communicators::NewId() {
  const std::lock_guard lock(mutex_);
  ncclUniqueId id = {};
  ++ids_;
  std::memcpy(id.internal, &ids_, sizeof(ids_));
  cliques_[ids_] = nullptr;
  return id;
}

std::shared_ptr<Clique> Communicators::CliqueOf(const ncclUniqueId& id, int size) {
  const std::lock_guard lock(mutex_);
  uint64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  const auto found = cliques_.find(number);
  if (found == cliques_.end()) return nullptr;
  if (found->second == nullptr) found->second = std::make_shared<Clique>(size);
  return found->second;
}

ncclComm_t Communicators::Add(std::shared_ptr<Communicator> communicator) {
  const std::lock_guard lock(mutex_);
  Communicator* const handle = communicator.get();
  held_[handle] = std::move(communicator);
  return reinterpret_cast<ncclComm_t>(handle);
}

std::shared_ptr<Communicator> Communicators::Find(ncclComm_t handle) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(handle);
  return found == held_.end() ? nullptr : found->second;
}

bool Communicators::Remove(ncclComm_t handle) {
  const std::lock_guard lock(mutex_);
  return held_.erase(handle) != 0;
}

bool Communicators::AnyBusy(int device) {
  std::vector<std::shared_ptr<Communicator>> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [handle, communicator] : held_) all.push_back(communicator);
  }
  return std::any_of(all.begin(), all.end(), [device](const auto& communicator) {
    const std::lock_guard lock(communicator->mutex);
    return communicator->device == device && communicator->Busy();
  });
}

size_t Communicators::Count() {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

}  // namespace ballast::emulator
