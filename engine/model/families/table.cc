#include "engine/concat.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

constexpr const Family* kFamilies[] = {&kDeepseekV3, &kMixtral, &kOlmoe, &kQwen3Moe};

}  // namespace

const Family* FindFamily(std::string_view model_type) {
  for (const Family* family : kFamilies) {
    if (model_type == family->model_type) return family;
  }
  return nullptr;
}

std::string FamilyNames() {
  std::string names;
  for (const Family* family : kFamilies) {
    names += Concat(names.empty() ? "" : ", ", family->model_type);
  }
  return names;
}

}  // namespace ballast
