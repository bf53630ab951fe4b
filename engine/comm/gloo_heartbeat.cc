#include "engine/comm/gloo_heartbeat.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

constexpr uint64_t kBeatTag = 1;
// Beats that may be missed: a machine that is busy delays some.
constexpr int kBeatsPerSilence = 10;

}  // namespace

GlooHeartbeat::GlooHeartbeat(std::unique_ptr<GlooMesh> mesh, std::chrono::milliseconds silence,
                             std::function<void(const absl::Status&)> on_loss)
    : mesh_(std::move(mesh)),
      silence_(silence),
      interval_(std::max(silence / kBeatsPerSilence, std::chrono::milliseconds(1))),
      on_loss_(std::move(on_loss)) {
  const int last = mesh_->rank() == 0 ? mesh_->size() - 1 : 0;
  for (int rank = mesh_->rank() == 0 ? 1 : 0; rank <= last; ++rank) {
    auto peer = std::make_unique<Peer>();
    peer->rank = rank;
    peer->heard = Clock::now().time_since_epoch().count();
    peers_.push_back(std::move(peer));
  }
  for (const auto& peer : peers_) {
    threads_.emplace_back([this, at = peer.get()] { Beat(*at); });
  }
  threads_.emplace_back([this] { Watch(); });
}

GlooHeartbeat::~GlooHeartbeat() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
    deaf_ = true;
  }
  ended_.notify_all();
  mesh_->Fail(absl::CancelledError("the heartbeat has ended"));
  for (std::thread& thread : threads_) thread.join();
}

void GlooHeartbeat::Deafen() {
  const std::lock_guard lock(mutex_);
  deaf_ = true;
}

bool GlooHeartbeat::Sleep(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !ended_.wait_for(lock, time, [this] { return end_; });
}

void GlooHeartbeat::Lose(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(deaf_, true)) return;
  on_loss_(why);
}

// Both sides say one beat and hear one, then rest: a beat is only sent to who asks for it, so one
// side's silence never piles up in the other's memory.
void GlooHeartbeat::Beat(Peer& peer) {
  GlooBuffer said(*mesh_);
  GlooBuffer heard(*mesh_);
  said.Reserve(1)[0] = {};
  heard.Reserve(1);
  const auto round = [&]() -> absl::Status {
    RETURN_IF_ERROR(heard.Receive(peer.rank, kBeatTag, 1));
    RETURN_IF_ERROR(said.Send(peer.rank, kBeatTag, 1));
    RETURN_IF_ERROR(heard.WaitReceived());
    peer.heard = Clock::now().time_since_epoch().count();
    return said.WaitSent();
  };
  do {
    if (const absl::Status status = round(); !status.ok()) {
      Lose(status);
      return;
    }
  } while (Sleep(interval_));
}

void GlooHeartbeat::Watch() {
  Clock::time_point last = Clock::now();
  while (Sleep(interval_)) {
    const Clock::time_point now = Clock::now();
    // A process that was stopped itself knows nothing of the others.
    const bool was_away = now - last > silence_ / 2;
    last = now;
    for (const auto& peer : peers_) {
      if (was_away) peer->heard = now.time_since_epoch().count();
      const Clock::duration quiet = now.time_since_epoch() - Clock::duration(peer->heard.load());
      if (quiet > silence_) {
        Lose(absl::UnavailableError(
            absl::StrCat("rank ", peer->rank, " is silent: nothing was heard of it for ",
                         std::chrono::duration_cast<std::chrono::milliseconds>(quiet).count(),
                         " ms, at most ", silence_.count(), " ms are allowed")));
      }
    }
  }
}

}  // namespace ballast
