// model.safetensors.index.json: which file of a sharded checkpoint holds which tensor.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace ballast {

// Tensor names by shard file name. File names are plain names of this folder (no '/', not ".."), so
// that a checkpoint cannot make us read elsewhere. INVALID_ARGUMENT for anything malformed.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ParseShardIndex(
    std::string_view file_name, std::string_view json);

}  // namespace ballast
