// Placement files of all formats, the first byte choosing the shape they are for. What is accepted
// must be legal, and must be read back after it was written in any format.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/moe/placement_export.h"
#include "engine/moe/placement_file.h"

namespace {

using ballast::ModelPlacement;
using ballast::PlacementFormat;
using ballast::PlacementShape;

void Check(const ModelPlacement& model, const PlacementShape& shape) {
  for (const int layer : shape.moe_layers) {
    if (!ValidatePlacement(model.layers[layer], layer, shape.experts, shape.ranks).ok()) {
      std::abort();
    }
  }
  for (const auto format :
       {PlacementFormat::kYaml, PlacementFormat::kTensorRtLlm, PlacementFormat::kSglang}) {
    const ballast::PlacementText written = ExportPlacement(model.layers, shape.experts, format);
    const auto again = ballast::ParsePlacement(written.text, "again", shape);
    if (!again.ok()) std::abort();
    if (format != PlacementFormat::kYaml) continue;
    for (const int layer : shape.moe_layers) {
      if (again->layers[layer].slot_expert != model.layers[layer].slot_expert) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // Seeds are plain files, for two ranks, which begin with a letter or '{'.
  const bool chosen = size > 0 && data[0] < 16;
  const PlacementShape shape{3, {1, 2}, 4, chosen ? 1 + data[0] % 4 : 2, 0};
  const auto model = ballast::ParsePlacement(chosen ? text.substr(1) : text, "fuzz", shape);
  // Larger ones take the time without telling more.
  if (model.ok() && model->layers[1].slots_per_rank <= 64) Check(*model, shape);
  return 0;
}
