#include "engine/checkpoint/checkpoint.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "engine/checkpoint/generation_config.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/shard_index.h"
#include "engine/concat.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

constexpr size_t kMaxIndexBytes = size_t{256} << 20;
constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

std::string Join(const std::string& folder, std::string_view name) {
  return Concat(folder, "/", name);
}

// A tensor that the forward pass cannot use: what Require says of it.
struct UnusableTensor {
  std::string file;
  std::string dtype;
};

}  // namespace

struct Checkpoint::Files {
  struct Shard {
    std::string name;
    MappedFile map;
  };

  std::string folder;
  ModelConfig config;
  GenerationDefaults defaults;
  const Family* family = nullptr;
  std::vector<Shard> shards;
  std::map<std::string, TensorView> tensors;
  std::map<std::string, UnusableTensor> unusable;

  const Shard* ShardOf(const TensorView& tensor) const;
  // Maps one file and takes the tensors in `wanted`, or all when it is null.
  absl::Status AddShard(const std::string& name, const std::vector<std::string>* wanted);
  void AddEntry(const std::string& file, std::string_view bytes, SafetensorsEntry entry);
  absl::Status AddAll();
};

const Checkpoint::Files::Shard* Checkpoint::Files::ShardOf(const TensorView& tensor) const {
  const char* data = static_cast<const char*>(tensor.data);
  for (const Shard& shard : shards) {
    const std::string_view bytes = shard.map.bytes();
    if (data >= bytes.data() && data + tensor.bytes <= bytes.data() + bytes.size()) return &shard;
  }
  return nullptr;
}

void Checkpoint::Files::AddEntry(const std::string& file, std::string_view bytes,
                                 SafetensorsEntry entry) {
  const std::optional<DType> type = UsableType(entry.dtype);
  if (!type) {
    unusable[entry.name] = UnusableTensor{file, entry.dtype};
    return;
  }
  TensorView view{*type, std::move(entry.shape), bytes.data() + entry.begin,
                  entry.end - entry.begin};
  tensors.emplace(std::move(entry.name), std::move(view));
}

absl::Status Checkpoint::Files::AddShard(const std::string& name,
                                         const std::vector<std::string>* wanted) {
  absl::StatusOr<MappedFile> map = MappedFile::Open(Join(folder, name));
  if (absl::IsNotFound(map.status()) && wanted != nullptr) {
    return absl::InvalidArgumentError(
        Concat(Join(folder, name), ": missing, but ", kIndexFile, " names it"));
  }
  RETURN_IF_ERROR(map.status());
  ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries, ParseSafetensors(name, map->bytes()));
  if (wanted == nullptr) {
    for (SafetensorsEntry& entry : entries) {
      AddEntry(name, map->bytes(), std::move(entry));
    }
  } else {
    std::map<std::string_view, SafetensorsEntry*> by_name;
    for (SafetensorsEntry& entry : entries) by_name[entry.name] = &entry;
    for (const std::string& tensor : *wanted) {
      const auto found = by_name.find(tensor);
      if (found == by_name.end()) {
        return absl::InvalidArgumentError(Concat(name, ": ", tensor.substr(0, 200),
                                                 " is missing, but ", kIndexFile,
                                                 " says it is here"));
      }
      AddEntry(name, map->bytes(), std::move(*found->second));
    }
  }
  shards.push_back(Shard{name, *std::move(map)});
  return absl::OkStatus();
}

absl::Status Checkpoint::Files::AddAll() {
  absl::Status single = AddShard(kSingleFile, nullptr);
  if (!absl::IsNotFound(single)) return single;
  absl::StatusOr<std::string> index = ReadSmallFile(Join(folder, kIndexFile), kMaxIndexBytes);
  if (absl::IsNotFound(index.status())) {
    return absl::NotFoundError(
        Concat(folder, ": holds neither ", kSingleFile, " nor ", kIndexFile));
  }
  RETURN_IF_ERROR(index.status());
  ASSIGN_OR_RETURN(const auto names, ParseShardIndex(kIndexFile, *index));
  for (const auto& [name, wanted] : names) RETURN_IF_ERROR(AddShard(name, &wanted));
  return absl::OkStatus();
}

namespace {

absl::StatusOr<ModelConfig> ReadConfigs(const std::string& folder, GenerationDefaults& defaults) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadSmallFile(Join(folder, "config.json"), kMaxConfigBytes));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text));
  const absl::StatusOr<std::string> generation_text =
      ReadSmallFile(Join(folder, "generation_config.json"), kMaxConfigBytes);
  if (absl::IsNotFound(generation_text.status())) return config;
  RETURN_IF_ERROR(generation_text.status());
  ASSIGN_OR_RETURN(const GenerationConfig generation, ParseGenerationConfig(*generation_text));
  defaults = generation.defaults;
  if (!generation.eos_token_ids.empty()) config.eos_token_ids.clear();
  for (int32_t id : generation.eos_token_ids) {
    if (id < config.vocab_size) config.eos_token_ids.push_back(id);
  }
  if (generation.bos_token_id && *generation.bos_token_id < config.vocab_size) {
    config.bos_token_id = *generation.bos_token_id;
  }
  return config;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& folder) {
  GenerationDefaults defaults;
  return ReadConfigs(folder, defaults);
}

Checkpoint::Checkpoint() : files_(std::make_unique<Files>()) {}

Checkpoint::~Checkpoint() = default;

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  Files& files = *checkpoint->files_;
  files.folder = folder;
  ASSIGN_OR_RETURN(files.config, ReadConfigs(folder, files.defaults));
  if (!files.config.unsupported.empty()) {
    return absl::UnimplementedError(
        Concat("config.json: not supported: ", absl::StrJoin(files.config.unsupported, "; ")));
  }
  files.family = FindFamily(files.config.model_type);
  CHECK(files.family != nullptr);
  RETURN_IF_ERROR(files.AddAll());
  return checkpoint;
}

const std::string& Checkpoint::folder() const { return files_->folder; }

const ModelConfig& Checkpoint::config() const { return files_->config; }

const GenerationDefaults& Checkpoint::generation_defaults() const { return files_->defaults; }

const Family& Checkpoint::family() const { return *files_->family; }

const TensorView* Checkpoint::Find(const std::string& name) const {
  const auto found = files_->tensors.find(name);
  return found == files_->tensors.end() ? nullptr : &found->second;
}

absl::StatusOr<const TensorView*> Checkpoint::Require(const std::string& name,
                                                      const std::vector<int64_t>& shape) const {
  const TensorView* tensor = Find(name);
  if (tensor == nullptr) {
    const auto unusable = files_->unusable.find(name);
    if (unusable != files_->unusable.end()) {
      return absl::InvalidArgumentError(Concat(unusable->second.file, ": ", name, " has type ",
                                               unusable->second.dtype,
                                               ", expected BF16, F16 or F32"));
    }
    const std::string file = files_->shards.size() == 1 ? files_->shards[0].name : kIndexFile;
    return absl::InvalidArgumentError(Concat(file, ": ", name, " is missing"));
  }
  if (tensor->shape != shape) {
    return absl::InvalidArgumentError(Concat(FileOf(*tensor), ": ", name, " has shape ",
                                             ShapeText(tensor->shape), ", expected ",
                                             ShapeText(shape)));
  }
  return tensor;
}

std::string Checkpoint::FileOf(const TensorView& tensor) const {
  const Files::Shard* shard = files_->ShardOf(tensor);
  return shard == nullptr ? files_->folder : shard->name;
}

const std::map<std::string, TensorView>& Checkpoint::tensors() const { return files_->tensors; }

void Checkpoint::Discard(const TensorView& tensor) const {
  const Files::Shard* shard = files_->ShardOf(tensor);
  if (shard != nullptr) shard->map.Discard(tensor.data, tensor.bytes);
}

}  // namespace ballast
