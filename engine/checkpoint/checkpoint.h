// A Hugging Face checkpoint folder: config.json, generation_config.json and safetensors files
// (single, or sharded with model.safetensors.index.json), memory-mapped and validated.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// A tensor as it lies in a mapped file. `data` may be unaligned.
struct TensorView {
  DType type = DType::kBF16;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  size_t bytes = 0;
};

// Sampling defaults of generation_config.json; unset means the file does not say.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int> max_new_tokens;
};

struct Family;

// Immutable after Open; any thread may read.
class Checkpoint {
 public:
  // Reads config.json, generation_config.json (optional) and every safetensors header; maps the
  // files. Errors name the file and field, what was found and what was expected. UNIMPLEMENTED for
  // a model that asks for what the forward pass does not do (ModelConfig::unsupported).
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder);
  ~Checkpoint();

  const std::string& folder() const;
  const ModelConfig& config() const;
  const GenerationDefaults& generation_defaults() const;
  const Family& family() const;

  // Null when the checkpoint has no such tensor.
  const TensorView* Find(const std::string& name) const;
  // The tensor `name` if it has `shape`. Else INVALID_ARGUMENT that names the file and says what
  // was found (missing, another shape, a type such as F8_E4M3 that weights cannot have).
  absl::StatusOr<const TensorView*> Require(const std::string& name,
                                            const std::vector<int64_t>& shape) const;
  // Tensors by name: those of type F32, BF16 or F16.
  const std::map<std::string, TensorView>& tensors() const;
  // The name of the file that holds `tensor`.
  std::string FileOf(const TensorView& tensor) const;
  // The pages under `tensor` are no longer needed; the system may drop them.
  void Discard(const TensorView& tensor) const;

 private:
  struct Files;
  Checkpoint();
  std::unique_ptr<Files> files_;
};

// Reads config.json and generation_config.json alone (what `inspect` needs first). A model that
// Open would refuse as UNIMPLEMENTED is answered, with `unsupported` saying why.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& folder);

}  // namespace ballast
