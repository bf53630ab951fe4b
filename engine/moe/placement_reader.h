// What the readers of all placement formats share: values out of a document, with errors that say
// where. Only placement_file.cc and placement_yaml.cc include this.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/moe/document.h"
#include "engine/moe/placement_file.h"
#include "engine/status.h"

namespace ballast {

// Layers as a file gives them, before they are made equally wide.
struct ReadLayers {
  std::map<int, LayerPlacement> layers;  // by layer number; not yet validated
  std::vector<std::string> warnings;
  int slots_per_rank = 0;  // that the file asks for; 0: says nothing
};

// INVALID_ARGUMENT "NAME: WHERE: found FOUND, expected EXPECTED".
absl::Status PlacementError(const std::string& name, const std::string& where,
                            const std::string& found, const std::string& expected);

// The text or the number of `node` as a whole number from `low` to `high`.
absl::StatusOr<int> ReadWhole(const DocumentNode& node, int low, int high, const std::string& name,
                              const std::string& where);
absl::StatusOr<int> ReadWhole(const std::string& text, int low, int high, const std::string& name,
                              const std::string& where);

// A list of expert numbers from `low` (0, or -1 where empty slots may be written) up. `rank`: of
// all of them; -1: it follows from the place in the list, slots_per_rank to a rank.
struct SlotListPlace {
  int layer = 0;
  int rank = -1;
  int slots_per_rank = 1;
};
absl::StatusOr<std::vector<int32_t>> ReadExperts(const DocumentNode& node, int low, int experts,
                                                 const std::string& name,
                                                 const SlotListPlace& place);

// Ballast's own format (placement_yaml.cc).
absl::StatusOr<ReadLayers> ReadOwnPlacement(const DocumentNode& root, const std::string& name,
                                            const PlacementShape& shape);

}  // namespace ballast
