#include "engine/model/config.h"

#include <algorithm>

#include "engine/concat.h"
#include "engine/model/config_parts.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

void ReadPublishedType(ConfigReader& reader, ModelConfig& config) {
  std::string type = reader.StringOr("dtype", reader.StringOr("torch_dtype", "bfloat16"));
  if (type.starts_with("torch.")) type = type.substr(6);
  if (type == "float32") {
    config.published_type = DType::kF32;
  } else if (type == "float16") {
    config.published_type = DType::kF16;
  } else if (type != "bfloat16") {
    reader.Unsupported(
        Concat("dtype \"", type.substr(0, 40), "\", expected bfloat16, float16 or float32"));
  }
}

void ReadTokens(ConfigReader& reader, ModelConfig& config) {
  constexpr IntRange kIds = {-1, 1 << 30};
  // Ids that the model cannot emit end nothing; transformers' class defaults leave such ids behind.
  for (int id : reader.Ints("eos_token_id", kIds, 1024)) {
    if (id >= 0 && id < config.vocab_size) config.eos_token_ids.push_back(id);
  }
  const std::vector<int> bos = reader.Ints("bos_token_id", kIds, 1024);
  if (!bos.empty() && bos[0] < config.vocab_size) config.bos_token_id = bos[0];
}

// Keys that would change the arithmetic of any family.
void ReadUnsupported(ConfigReader& reader) {
  const std::string activation = reader.StringOr("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    reader.Unsupported(Concat("hidden_act \"", activation.substr(0, 40), "\", expected silu"));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (reader.BoolOr(key, false)) reader.Unsupported(Concat(key, " true"));
  }
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (!reader.Has(key)) continue;
    ConfigReader quantization = reader.Child(key);
    reader.Unsupported(Concat(key, " (quant_method ",
                              quantization.StringOr("quant_method", "unknown").substr(0, 40), ")"));
  }
  for (const std::string& type : reader.Strings("layer_types", kLayerRange.max)) {
    if (type == "full_attention") continue;
    reader.Unsupported(Concat("layer_types with \"", type.substr(0, 40), "\""));
    break;
  }
}

void CheckRouter(ConfigReader& reader, const ModelConfig& config) {
  const RouterConfig& router = config.router;
  if (router.groups == 1 && router.topk_group == 1) return;
  const auto fail = [&](std::string_view key, int value, std::string_view expected) {
    reader.Fail(Concat(key, " is ", value, ", expected ", expected));
  };
  if (config.experts % router.groups != 0) {
    fail("n_group", router.groups, Concat("a divisor of the ", config.experts, " experts"));
    return;
  }
  const int group_size = config.experts / router.groups;
  if (router.groups > 1 && group_size < 2) {
    // A group is worth its two best experts.
    fail("n_group", router.groups, "groups of 2 experts or more");
  }
  if (router.topk_group > router.groups) {
    fail("topk_group", router.topk_group, Concat("at most n_group ", router.groups));
  }
  if (router.topk_group * group_size < config.experts_per_token) {
    fail("num_experts_per_tok", config.experts_per_token,
         Concat("at most the ", router.topk_group * group_size, " experts of topk_group ",
                router.topk_group, " groups"));
  }
}

void CheckWhole(ConfigReader& reader, const ModelConfig& config) {
  if (static_cast<int64_t>(config.layers) * config.experts > kMaxExpertsInAll) {
    reader.Fail(Concat("num_hidden_layers ", config.layers, " x ", config.experts,
                       " experts is more than ", kMaxExpertsInAll));
  }
  if (static_cast<int64_t>(config.layers) * config.heads > kMaxHeadsInAll) {
    reader.Fail(Concat("num_hidden_layers ", config.layers, " x num_attention_heads ", config.heads,
                       " is more than ", kMaxHeadsInAll));
  }
  const bool any_dense =
      std::find(config.is_moe.begin(), config.is_moe.end(), false) != config.is_moe.end();
  if (any_dense && config.dense_intermediate == 0) {
    reader.Fail("intermediate_size is missing, and some layers are dense");
  }
  CheckRouter(reader, config);
}

void ReadAll(ConfigReader& reader, const Family& family, ModelConfig& config) {
  config.layers = reader.Int("num_hidden_layers", kLayerRange);
  config.hidden = reader.Int("hidden_size", kHiddenRange);
  config.vocab_size = reader.Int("vocab_size", kVocabRange);
  config.max_context = reader.IntOr("max_position_embeddings",
                                    family.default_max_position_embeddings, kPositionRange);
  config.rms_norm_eps =
      static_cast<float>(reader.NumberOr("rms_norm_eps", family.default_rms_norm_eps, {0.0, 1.0}));
  config.tied_embeddings = reader.BoolOr("tie_word_embeddings", false);
  config.is_moe.assign(static_cast<size_t>(config.layers), true);
  ReadPublishedType(reader, config);
  ReadTokens(reader, config);
  ReadUnsupported(reader);
  family.read_config(reader, config);
  ReadRope(reader, family.default_rope_theta, config);
  config.router.experts = config.experts;
  config.router.k = config.experts_per_token;
  CheckWhole(reader, config);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json) {
  ASSIGN_OR_RETURN(ConfigReader reader, ConfigReader::Parse("config.json", json));
  ModelConfig config;
  config.model_type = reader.StringOr("model_type", "");
  const Family* family = FindFamily(config.model_type);
  if (family == nullptr) {
    reader.Wrong("model_type", Concat("one of ", FamilyNames()));
    return reader.status();
  }
  ReadAll(reader, *family, config);
  RETURN_IF_ERROR(reader.status());
  config.unsupported = reader.unsupported();
  return config;
}

std::vector<int> MoeLayers(const ModelConfig& config) {
  std::vector<int> layers;
  for (size_t i = 0; i < config.is_moe.size(); ++i) {
    if (config.is_moe[i]) layers.push_back(static_cast<int>(i));
  }
  return layers;
}

}  // namespace ballast
