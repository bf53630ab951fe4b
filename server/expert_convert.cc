#include "server/expert_convert.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "engine/moe/placement.h"
#include "engine/request.h"

namespace ballast {
namespace {

// The rule is the engine's; its message names layer, rank and expert, this the field.
absl::Status NameField(const absl::Status& status, const std::string& field) {
  if (status.ok()) return status;
  absl::Status named(status.code(), absl::StrCat(field, ": ", std::string(status.message())));
  named.SetPayload(kFieldPayload, absl::Cord(field));
  return named;
}

bool IsMoeLayer(const ModelConfig& config, uint32_t layer) {
  return layer < config.is_moe.size() && config.is_moe[layer];
}

absl::StatusOr<LayerPlacement> ToLayer(const v1::LayerPlacement& message, const ModelInfo& info,
                                       const std::string& path) {
  const int64_t slots = int64_t{message.slots_per_rank()} * info.ranks;
  if (message.slot_expert_size() != slots) {
    return FieldError(absl::StrCat(path, ".slot_expert"),
                      absl::StrCat(message.slot_expert_size(), " slots"),
                      absl::StrCat(slots, ": ", info.ranks, " ranks of slots_per_rank ",
                                   message.slots_per_rank()));
  }
  LayerPlacement layer;
  layer.ranks = info.ranks;
  layer.slots_per_rank = static_cast<int>(message.slots_per_rank());
  layer.slot_expert.assign(message.slot_expert().begin(), message.slot_expert().end());
  RETURN_IF_ERROR(NameField(
      ValidatePlacement(layer, static_cast<int>(message.layer()), info.config.experts, info.ranks),
      absl::StrCat(path, ".slot_expert")));
  return layer;
}

}  // namespace

v1::ExpertLoad ToMessage(const WindowLoad& window, const BalancingState& balancing) {
  const ExpertLoad& load = window.load;
  v1::ExpertLoad message;
  message.set_placement_version(load.placement_version);
  message.set_steps(static_cast<uint64_t>(load.steps));
  message.set_tokens(static_cast<uint64_t>(load.tokens));
  message.set_window_s(window.seconds);
  message.set_slot_moves(static_cast<uint64_t>(load.slot_moves));
  message.set_mode(balancing.mode);
  message.set_paused(balancing.paused);
  message.mutable_rank_speed()->Add(load.rank_speed.begin(), load.rank_speed.end());
  message.mutable_rank_wait_s()->Add(load.rank_wait_seconds.begin(), load.rank_wait_seconds.end());
  for (const LayerLoad& from : load.layers) {
    v1::LayerLoad& layer = *message.add_layers();
    layer.set_layer(static_cast<uint32_t>(from.layer));
    layer.mutable_expert_rows()->Add(from.expert_rows.begin(), from.expert_rows.end());
    layer.mutable_rank_rows()->Add(from.rank_rows.begin(), from.rank_rows.end());
  }
  return message;
}

v1::Placement ToMessage(const PlacementState& placement, const ModelConfig& config) {
  v1::Placement message;
  message.set_version(placement.version);
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    if (!IsMoeLayer(config, static_cast<uint32_t>(l))) continue;
    const LayerPlacement& from = placement.layers[l];
    message.set_ranks(static_cast<uint32_t>(from.ranks));
    v1::LayerPlacement& layer = *message.add_layers();
    layer.set_layer(static_cast<uint32_t>(l));
    layer.set_slots_per_rank(static_cast<uint32_t>(from.slots_per_rank));
    layer.mutable_slot_expert()->Add(from.slot_expert.begin(), from.slot_expert.end());
  }
  return message;
}

absl::StatusOr<PlacementRequest> ToPlacementRequest(const v1::Placement& placement,
                                                    uint64_t expected_version, bool dry_run,
                                                    const ModelInfo& info) {
  if (placement.ranks() != static_cast<uint32_t>(info.ranks)) {
    return FieldError("placement.ranks", absl::StrCat(placement.ranks()),
                      absl::StrCat(info.ranks, ", the server's ranks"));
  }
  if (placement.layers().empty()) {
    return FieldError("placement.layers", "none", "at least one layer to place");
  }
  PlacementRequest request;
  request.expected_version = expected_version;
  request.dry_run = dry_run;
  request.layers.resize(static_cast<size_t>(info.config.layers));
  for (int i = 0; i < placement.layers_size(); ++i) {
    const v1::LayerPlacement& message = placement.layers(i);
    const std::string path = absl::StrCat("placement.layers[", i, "]");
    if (!IsMoeLayer(info.config, message.layer())) {
      return FieldError(absl::StrCat(path, ".layer"), absl::StrCat("layer ", message.layer()),
                        "the number of a layer with experts");
    }
    LayerPlacement& layer = request.layers[message.layer()];
    if (!layer.slot_expert.empty()) {
      return FieldError(absl::StrCat(path, ".layer"),
                        absl::StrCat("layer ", message.layer(), " again"), "every layer once");
    }
    ASSIGN_OR_RETURN(layer, ToLayer(message, info, path));
  }
  return request;
}

absl::Status CheckSeconds(double seconds, double high, const char* field) {
  if (seconds >= 0 && seconds <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat(seconds), absl::StrCat("seconds, 0 to ", high));
}

}  // namespace ballast
