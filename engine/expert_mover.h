// Brings the packed weights of an expert from one process to another while steps run. The leader
// asks the ranks, one question at a time; they answer from a thread of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/comm/gloo_channel.h"
#include "engine/comm/gloo_device_buffer.h"
#include "engine/comm/gloo_mesh.h"
#include "engine/model/expert_store.h"
#include "engine/moe/slot_moves.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

class ExpertMover {
 public:
  // Copies on a stream of its own. All that is referred to outlives the mover.
  ExpertMover(GlooMesh& mesh, const Device& device, int unit, ExpertStore& experts);
  ~ExpertMover();
  ExpertMover(const ExpertMover&) = delete;
  ExpertMover& operator=(const ExpertMover&) = delete;

  // At the leader, one thread at a time; World's Move and DropMoves.
  absl::Status Move(const SlotMove& move);
  absl::Status Drop();
  // Ends Serve at all others.
  void Stop();

  // At any other rank: answers until the leader says stop. An error: the mesh is broken.
  absl::Status Serve();

 private:
  // The question is the message's kind; the answer's kind is a status code.
  enum Question : uint32_t { kShape = 1, kReserve, kSend, kAwait, kDrop, kStop };
  struct Expert {
    int32_t layer = 0;
    int32_t expert = 0;
    int32_t peer = 0;  // kReserve: it comes from there; kSend: it goes there
  };

  absl::StatusOr<std::string> Ask(int rank, Question question, const std::string& bytes);
  absl::StatusOr<std::string> Answer(uint32_t question, std::string_view bytes);
  absl::StatusOr<const MlpWeights*> Find(const Expert& expert) const;
  absl::Status Reserve(const Expert& expert, const MlpWeights& shape);
  absl::Status Send(const Expert& expert);
  absl::Status Await();

  GlooMesh& mesh_;
  const Device& device_;
  const Stream stream_;
  ExpertStore& experts_;
  std::vector<GlooChannel> channels_;     // leader: to rank 1, 2, ..; else to the leader
  std::vector<GlooDeviceBuffer> coming_;  // matrices that were asked for
};

}  // namespace ballast
