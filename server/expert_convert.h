// Between the messages of ExpertAdmin and the engine's plain structs. Pure functions; any thread.
#pragma once

#include <cstdint>

#include "ballast/v1/expert_admin.pb.h"
#include "engine/engine.h"
#include "engine/status.h"
#include "server/load_history.h"

namespace ballast {

v1::ExpertLoad ToMessage(const WindowLoad& window, const BalancingState& balancing);
// `config` says which layers are MoE layers.
v1::Placement ToMessage(const PlacementState& placement, const ModelConfig& config);

// What a client asks for. INVALID_ARGUMENT, naming the field, unless it names ranks as they are,
// at least one layer, MoE layers only, none twice, and each with a placement that can serve it.
absl::StatusOr<PlacementRequest> ToPlacementRequest(const v1::Placement& placement,
                                                    uint64_t expected_version, bool dry_run,
                                                    const ModelInfo& info);

// ValidatePlacementResponse or ApplyPlacementResponse: they have the same fields.
template <typename Response>
void Fill(const PlacementChange& change, Response* response) {
  response->set_version(change.version);
  response->set_slot_moves(static_cast<uint64_t>(change.slot_moves));
  response->set_bytes(static_cast<uint64_t>(change.bytes));
  response->set_predicted_imbalance_before(change.predicted_imbalance_before);
  response->set_predicted_imbalance_after(change.predicted_imbalance_after);
}

// `seconds`, if a number of [0, high]; else INVALID_ARGUMENT that names `field`.
absl::Status CheckSeconds(double seconds, double high, const char* field);

}  // namespace ballast
