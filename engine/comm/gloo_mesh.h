// Ranks as processes, joined by TCP (https://github.com/facebookincubator/gloo): every rank has a
// connection to every other, on which bytes travel in order. Gloo's exceptions end here.
//
// A mesh is for one purpose (rows, plans, heartbeats, ...), for it dies as a whole: a peer that is
// gone or late leaves it broken for good. Peers are trusted: one that sends more bytes than were
// asked for ends the process.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "engine/comm/rendezvous.h"
#include "engine/status.h"

namespace gloo {
class Context;
namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport
}  // namespace gloo

namespace ballast {

// Who meets, where, and how long that may take.
struct Meeting {
  int rank = 0;
  int size = 1;
  // An address of this machine that the other ranks can reach.
  std::string address = "127.0.0.1";
  std::string prefix;  // of all keys; another one for every new attempt
  Rendezvous* rendezvous = nullptr;
  std::chrono::milliseconds limit{std::chrono::minutes(1)};
  // The thread that moves the bytes of several meshes (MakeGlooDevice); null: one of its own.
  std::shared_ptr<gloo::transport::Device> device;
};

// UNAVAILABLE: the address is not this machine's.
absl::StatusOr<std::shared_ptr<gloo::transport::Device>> MakeGlooDevice(const std::string& address);

// No wait is longer; what has no deadline of its own waits so long.
inline constexpr std::chrono::milliseconds kForever{std::chrono::hours(24 * 365)};

class GlooMesh {
 public:
  // Connects to all others. Collective: every rank makes the same meshes in the same order.
  // Also ignores SIGPIPE for the whole process, for Gloo writes to sockets whose peer is gone.
  static absl::StatusOr<std::unique_ptr<GlooMesh>> Connect(const Meeting& meeting,
                                                           const std::string& purpose);
  ~GlooMesh();
  GlooMesh(const GlooMesh&) = delete;
  GlooMesh& operator=(const GlooMesh&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Ends every operation, present and to come, with `why`. The first one counts. Any thread.
  void Fail(const absl::Status& why);
  // Why it is broken; OK: it is not. Any thread.
  absl::Status failure() const;

 private:
  friend class GlooBuffer;
  GlooMesh(int rank, int size) : rank_(rank), size_(size) {}

  const int rank_;
  const int size_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::Context> context_;
  mutable std::mutex mutex_;
  absl::Status failure_;                                 // guarded by mutex_
  std::set<gloo::transport::UnboundBuffer*> receiving_;  // guarded by mutex_
  std::set<gloo::transport::UnboundBuffer*> sending_;    // guarded by mutex_
};

// Memory that bytes are sent from or received into: at most one of each at a time. Bytes between
// two ranks with the same `tag` arrive in the order they were sent; the receiver asks for at least
// as many as come. Waits sleep. One thread at a time; the mesh outlives it.
class GlooBuffer {
 public:
  explicit GlooBuffer(GlooMesh& mesh);
  ~GlooBuffer();
  GlooBuffer(GlooBuffer&&) noexcept;
  GlooBuffer& operator=(GlooBuffer&&) = delete;

  // Memory of its own, at least so large; contents are lost when it grows. Nothing is under way.
  std::byte* Reserve(size_t bytes);
  // Memory of the caller's, which outlives what is under way.
  void Use(void* data, size_t bytes);

  std::byte* data() const { return data_; }

  // Start an operation on the first `bytes` bytes.
  absl::Status Send(int peer, uint64_t tag, size_t bytes);
  absl::Status Receive(int peer, uint64_t tag, size_t bytes);
  // Wait for it. UNAVAILABLE: the peer is gone; DEADLINE_EXCEEDED: it did not answer within
  // `limit`; both name it and break the mesh.
  absl::Status WaitSent(std::chrono::milliseconds limit = kForever);
  absl::Status WaitReceived(std::chrono::milliseconds limit = kForever);

 private:
  absl::Status Start(bool send, int peer, uint64_t tag, size_t bytes);
  absl::Status Wait(bool send, int peer, std::chrono::milliseconds limit);

  GlooMesh* mesh_;
  std::unique_ptr<std::byte[]> own_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  int send_peer_ = -1;
  int receive_peer_ = -1;
  std::unique_ptr<gloo::transport::UnboundBuffer> buffer_;
};

}  // namespace ballast
