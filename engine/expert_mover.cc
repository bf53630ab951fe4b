#include "engine/expert_mover.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/bytes.h"

namespace ballast {

template <typename Bytes>
void Fields(Bytes& b, PackedMatrix& v) {
  b(v.type, v.n, v.k);
}
template <typename Bytes>
void Fields(Bytes& b, MlpWeights& v) {
  b(v.gate, v.up, v.down);
}

namespace {

// Beside those of the channels, which share the mesh.
constexpr uint64_t kWeightsTag = 16;

constexpr std::chrono::seconds kStopLimit(5);

std::array<const PackedMatrix*, 3> MatricesOf(const MlpWeights& expert) {
  return {&expert.gate, &expert.up, &expert.down};
}

}  // namespace

ExpertMover::ExpertMover(GlooMesh& mesh, const Device& device, int unit, ExpertStore& experts)
    : mesh_(mesh),
      device_(device),
      stream_(device.create_stream(unit, /*threads=*/1)),
      experts_(experts) {
  const bool leads = mesh.rank() == 0;
  for (int peer = leads ? 1 : 0; peer < (leads ? mesh.size() : 1); ++peer) {
    channels_.emplace_back(mesh, peer);
  }
}

ExpertMover::~ExpertMover() { device_.destroy_stream(stream_); }

absl::Status ExpertMover::Move(const SlotMove& move) {
  const auto question = [&](int peer) {
    std::string bytes;
    AppendBytes(move.layer, bytes);
    AppendBytes(move.expert, bytes);
    AppendBytes(peer, bytes);
    return bytes;
  };
  ASSIGN_OR_RETURN(const std::string shape, Ask(move.from, kShape, question(move.to)));
  RETURN_IF_ERROR(Ask(move.to, kReserve, question(move.from) + shape).status());
  RETURN_IF_ERROR(Ask(move.from, kSend, question(move.to)).status());
  return Ask(move.to, kAwait, "").status();
}

absl::Status ExpertMover::Drop() {
  for (int rank = 0; rank < mesh_.size(); ++rank) RETURN_IF_ERROR(Ask(rank, kDrop, "").status());
  return absl::OkStatus();
}

void ExpertMover::Stop() {
  for (GlooChannel& channel : channels_) {
    if (!channel.Send(kStop, "", kStopLimit).ok()) return;
  }
}

absl::Status ExpertMover::Serve() {
  while (true) {
    ASSIGN_OR_RETURN(const ChannelMessage message, channels_[0].Receive());
    if (message.kind == kStop) return absl::OkStatus();
    const absl::StatusOr<std::string> answer = Answer(message.kind, message.bytes);
    RETURN_IF_ERROR(mesh_.failure());
    const std::string text(answer.status().message());
    RETURN_IF_ERROR(channels_[0].Send(static_cast<uint32_t>(answer.status().code()),
                                      answer.ok() ? *answer : text));
  }
}

absl::StatusOr<std::string> ExpertMover::Ask(int rank, Question question,
                                             const std::string& bytes) {
  if (rank == 0) return Answer(question, bytes);
  GlooChannel& channel = channels_[static_cast<size_t>(rank - 1)];
  RETURN_IF_ERROR(channel.Send(question, bytes));
  ASSIGN_OR_RETURN(ChannelMessage answer, channel.Receive());
  if (answer.kind == static_cast<uint32_t>(absl::StatusCode::kOk)) return std::move(answer.bytes);
  return absl::Status(static_cast<absl::StatusCode>(answer.kind),
                      absl::StrCat("rank ", rank, ": ", answer.bytes));
}

absl::StatusOr<std::string> ExpertMover::Answer(uint32_t question, std::string_view bytes) {
  if (question == kAwait) {
    RETURN_IF_ERROR(Await());
    return "";
  }
  if (question == kDrop) {
    coming_.clear();
    experts_.DropReserved();
    return "";
  }
  Expert expert;
  MlpWeights shape;
  ByteReader reader(bytes);
  reader(expert.layer, expert.expert, expert.peer);
  if (question == kReserve) reader(shape);
  RETURN_IF_ERROR(reader.Finish("move"));
  if (question == kReserve) {
    RETURN_IF_ERROR(Reserve(expert, shape));
    return "";
  }
  if (question == kSend) {
    RETURN_IF_ERROR(Send(expert));
    return "";
  }
  ASSIGN_OR_RETURN(const MlpWeights* weights, Find(expert));
  std::string answer;
  AppendBytes(*weights, answer);
  return answer;
}

absl::StatusOr<const MlpWeights*> ExpertMover::Find(const Expert& expert) const {
  const MlpWeights* weights = experts_.Find(expert.layer, expert.expert);
  if (weights != nullptr) return weights;
  return absl::FailedPreconditionError(absl::StrCat("move: expert ", expert.expert, " of layer ",
                                                    expert.layer, " does not stand here"));
}

absl::Status ExpertMover::Reserve(const Expert& expert, const MlpWeights& shape) {
  ASSIGN_OR_RETURN(const MlpWeights to, experts_.Reserve(expert.layer, expert.expert, shape));
  coming_.clear();
  for (const PackedMatrix* matrix : MatricesOf(to)) {
    const size_t bytes = device_.packed_bytes(matrix->type, matrix->n, matrix->k);
    GlooDeviceBuffer& buffer = coming_.emplace_back(mesh_, device_, stream_);
    RETURN_IF_ERROR(buffer.Receive(expert.peer, kWeightsTag, matrix->data, bytes));
  }
  return absl::OkStatus();
}

absl::Status ExpertMover::Send(const Expert& expert) {
  ASSIGN_OR_RETURN(const MlpWeights* weights, Find(expert));
  std::vector<GlooDeviceBuffer> going;
  for (const PackedMatrix* matrix : MatricesOf(*weights)) {
    const size_t bytes = device_.packed_bytes(matrix->type, matrix->n, matrix->k);
    GlooDeviceBuffer& buffer = going.emplace_back(mesh_, device_, stream_);
    RETURN_IF_ERROR(buffer.Send(expert.peer, kWeightsTag, matrix->data, bytes));
  }
  for (GlooDeviceBuffer& buffer : going) RETURN_IF_ERROR(buffer.WaitSent());
  return absl::OkStatus();
}

absl::Status ExpertMover::Await() {
  for (GlooDeviceBuffer& buffer : coming_) RETURN_IF_ERROR(buffer.WaitReceived());
  coming_.clear();
  return absl::OkStatus();
}

}  // namespace ballast
