// Placements as text for other programs, and for ParsePlacement to read again.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

enum class PlacementFormat { kYaml, kTensorRtLlm, kSglang };

struct PlacementText {
  std::string text;                   // ends with a line feed
  std::vector<std::string> warnings;  // what the format could not say, one line each
};

// `layers` [layers] as in ModelPlacement: legal placements on equally many ranks; a layer without
// slots is dense. TensorRT-LLM and SGLang know no empty slots: there an empty slot repeats the
// first expert of its rank, which reading folds into an empty slot again (of the same rank, perhaps
// another slot); a rank without experts gets a replica of its own, with a warning. Layers with
// fewer slots than others are filled up in the same way. SGLang's list covers dense layers too;
// they get the even placement of `experts`. Pure.
PlacementText ExportPlacement(std::span<const LayerPlacement> layers, int experts,
                              PlacementFormat format);

}  // namespace ballast
