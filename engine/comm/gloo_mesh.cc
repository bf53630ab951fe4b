#include "engine/comm/gloo_mesh.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <vector>

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

using gloo::transport::UnboundBuffer;

// Gloo waits five times its timeout for a connection to be made.
constexpr int kConnectFactor = 5;

// Gloo begins its messages with a place in its own source.
std::string Said(const std::exception& error) {
  std::string text = error.what();
  if (const size_t end = text.find("] "); text.starts_with('[') && end != std::string::npos) {
    text.erase(0, end + 2);
  }
  return text;
}

// Lets Gloo read and write a Rendezvous; remembers the first error, for exceptions carry none.
class StoreOfRendezvous final : public gloo::rendezvous::Store {
 public:
  StoreOfRendezvous(const Meeting& meeting, const std::string& purpose)
      : rendezvous_(*meeting.rendezvous),
        purpose_(purpose),
        prefix_(absl::StrCat(meeting.prefix, "/", purpose, "/")),
        deadline_(std::chrono::steady_clock::now() + meeting.limit) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    Require(rendezvous_.Set(prefix_ + key, std::string(data.begin(), data.end())));
  }

  std::vector<char> get(const std::string& key) override {
    // Gloo's keys are "3" and "rank_3".
    peer_ = key.substr(key.find_last_not_of("0123456789") + 1);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline_ - std::chrono::steady_clock::now());
    const auto value = rendezvous_.Get(prefix_ + key, std::max(left, std::chrono::milliseconds(1)));
    if (absl::IsDeadlineExceeded(value.status())) {
      Require(absl::DeadlineExceededError(
          absl::StrCat("rank ", peer_, " did not connect for ", purpose_,
                       " in time: ", std::string(value.status().message()))));
    }
    Require(value.status());
    return {value->begin(), value->end()};
  }

  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override {
    wait(keys);
  }

  const absl::Status& error() const { return error_; }
  // The rank whose address was read last: Gloo connects to one after another.
  const std::string& peer() const { return peer_; }

 private:
  void Require(const absl::Status& status) {
    if (status.ok()) return;
    error_ = status;
    throw gloo::IoException(std::string(status.message()));
  }

  Rendezvous& rendezvous_;
  const std::string purpose_;
  const std::string prefix_;
  const std::chrono::steady_clock::time_point deadline_;
  absl::Status error_;
  std::string peer_ = "another";
};

// Whether this machine can listen there. Gloo would find out too, but forgets memory when it
// cannot.
absl::Status CheckAddress(const std::string& address) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(address.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat("address ", address, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int socket = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (socket < 0) continue;
    const bool bound = bind(socket, at->ai_addr, at->ai_addrlen) == 0;
    close(socket);
    if (bound) return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("address ", address, ": is not this machine's, expected one of its own"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<gloo::transport::Device>> MakeGlooDevice(
    const std::string& address) {
  RETURN_IF_ERROR(CheckAddress(address));
  try {
    gloo::transport::tcp::attr where;
    where.hostname = address;
    return gloo::transport::tcp::CreateDevice(where);
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("address ", address, ": ", Said(error)));
  }
}

absl::StatusOr<std::unique_ptr<GlooMesh>> GlooMesh::Connect(const Meeting& meeting,
                                                            const std::string& purpose) {
  std::signal(SIGPIPE, SIG_IGN);
  std::unique_ptr<GlooMesh> mesh(new GlooMesh(meeting.rank, meeting.size));
  mesh->device_ = meeting.device;
  if (mesh->device_ == nullptr) {
    ASSIGN_OR_RETURN(mesh->device_, MakeGlooDevice(meeting.address));
  }
  StoreOfRendezvous store(meeting, purpose);
  try {
    const auto context = std::make_shared<gloo::rendezvous::Context>(meeting.rank, meeting.size);
    context->setTimeout(meeting.limit / kConnectFactor);
    context->connectFullMesh(store, mesh->device_);
    mesh->context_ = context;
  } catch (const std::exception& error) {
    if (!store.error().ok()) return store.error();
    return absl::UnavailableError(absl::StrCat("rank ", meeting.rank, " at ", meeting.address,
                                               ": cannot connect to rank ", store.peer(), " for ",
                                               purpose, ": ", Said(error)));
  }
  return mesh;
}

GlooMesh::~GlooMesh() = default;

void GlooMesh::Fail(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) failure_ = why;
  for (UnboundBuffer* buffer : receiving_) buffer->abortWaitRecv();
  for (UnboundBuffer* buffer : sending_) buffer->abortWaitSend();
}

absl::Status GlooMesh::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

GlooBuffer::GlooBuffer(GlooMesh& mesh) : mesh_(&mesh) {}
GlooBuffer::~GlooBuffer() = default;
GlooBuffer::GlooBuffer(GlooBuffer&&) noexcept = default;

std::byte* GlooBuffer::Reserve(size_t bytes) {
  if (own_ == nullptr || size_ < bytes) {
    buffer_.reset();
    own_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    Use(own_.get(), bytes);
  }
  return data_;
}

void GlooBuffer::Use(void* data, size_t bytes) {
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
  buffer_ = mesh_->context_->createUnboundBuffer(data, bytes);
}

absl::Status GlooBuffer::Start(bool send, int peer, uint64_t tag, size_t bytes) {
  CHECK(bytes <= size_ && peer >= 0 && peer < mesh_->size() && peer != mesh_->rank());
  RETURN_IF_ERROR(mesh_->failure());
  try {
    if (send) {
      buffer_->send(peer, tag, 0, bytes);
    } else {
      buffer_->recv(peer, tag, 0, bytes);
    }
  } catch (const std::exception& error) {
    mesh_->Fail(absl::UnavailableError(absl::StrCat("rank ", peer, " is gone: ", Said(error))));
    return mesh_->failure();
  }
  return absl::OkStatus();
}

absl::Status GlooBuffer::Send(int peer, uint64_t tag, size_t bytes) {
  send_peer_ = peer;
  return Start(true, peer, tag, bytes);
}

absl::Status GlooBuffer::Receive(int peer, uint64_t tag, size_t bytes) {
  receive_peer_ = peer;
  return Start(false, peer, tag, bytes);
}

absl::Status GlooBuffer::Wait(bool send, int peer, std::chrono::milliseconds limit) {
  std::set<UnboundBuffer*>& waiting = send ? mesh_->sending_ : mesh_->receiving_;
  {
    // Registered in the same breath as the check, so that Fail either is seen here or ends the
    // wait.
    const std::lock_guard lock(mesh_->mutex_);
    RETURN_IF_ERROR(mesh_->failure_);
    waiting.insert(buffer_.get());
  }
  const auto start = std::chrono::steady_clock::now();
  absl::Status status;
  try {
    // False: Fail ended it.
    if (!(send ? buffer_->waitSend(limit) : buffer_->waitRecv(limit))) {
      status = absl::CancelledError("ended");
    }
  } catch (const std::exception& error) {
    status = std::chrono::steady_clock::now() - start >= limit
                 ? absl::DeadlineExceededError(
                       absl::StrCat("rank ", peer, " did not answer within ", limit.count(), " ms"))
                 : absl::UnavailableError(absl::StrCat("rank ", peer, " is gone: ", Said(error)));
  }
  {
    const std::lock_guard lock(mesh_->mutex_);
    waiting.erase(buffer_.get());
  }
  if (status.ok()) return status;
  mesh_->Fail(status);
  return mesh_->failure();
}

absl::Status GlooBuffer::WaitSent(std::chrono::milliseconds limit) {
  return Wait(true, send_peer_, limit);
}

absl::Status GlooBuffer::WaitReceived(std::chrono::milliseconds limit) {
  return Wait(false, receive_peer_, limit);
}

}  // namespace ballast
