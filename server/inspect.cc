// `ballast inspect`: what a model folder holds and what serving it takes, for people and as JSON.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/inspection.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/units.h"

namespace ballast {
namespace {

// 1234567 -> "1,234,567".
std::string Grouped(int64_t number) {
  std::string digits = absl::StrCat(number);
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    if (digits[at - 1] != '-') digits.insert(at, ",");
  }
  return digits;
}

std::string DescribeAttention(const ModelConfig& config) {
  if (config.attention == AttentionKind::kLatent) {
    return absl::StrCat("latent (MLA), ", config.heads, " heads, latent of ", config.kv_lora_rank,
                        " + ", config.qk_rope_head_dim, " rope values a token");
  }
  return absl::StrCat("grouped, ", config.heads, " heads over ", config.kv_heads,
                      " key-value heads of ", config.head_dim);
}

std::string DescribeExperts(const ModelConfig& config) {
  std::string text = absl::StrCat(config.experts, " of width ", config.expert_intermediate, ", ",
                                  config.experts_per_token, " for each token, in ",
                                  MoeLayers(config).size(), " of ", config.layers, " layers");
  if (config.shared_intermediate > 0) {
    absl::StrAppend(&text, "; shared expert of width ", config.shared_intermediate);
  }
  return text;
}

void PrintText(const ModelInspection& model, const InspectOptions& options) {
  const ModelInfo& info = model.info;
  const ModelConfig& config = info.config;
  const MemoryPlan& plan = model.plan;
  const auto line = [](const char* name, const std::string& text) {
    std::printf("%-14s %s\n", name, text.c_str());
  };
  line("model", absl::StrCat(info.name, " (", options.engine.model, ")"));
  line("architecture",
       absl::StrCat(config.model_type, ", ", config.layers, " layers, hidden size ", config.hidden,
                    ", vocabulary ", config.vocab_size, config.tied_embeddings ? " (tied)" : ""));
  line("attention", DescribeAttention(config));
  line("experts", DescribeExperts(config));
  line("context",
       absl::StrCat(info.max_context, " tokens served, ", config.max_context, " in the model"));
  line("tokenizer", info.limits.has_tokenizer ? "yes" : "none: token ids only");
  line("parameters", absl::StrCat(Grouped(info.parameters), " total, ",
                                  Grouped(info.active_parameters), " active for a token"));
  line("compute", absl::StrCat(info.compute, " with ", info.kernels, " kernels",
                               info.gpus.empty() ? "" : " on ", info.gpus));
  const auto rank_bytes =
      static_cast<int64_t>(plan.weights_bytes + model.kv_bytes + plan.workspace_bytes);
  line("memory", info.ranks == 1
                     ? absl::StrCat(FormatBytes(rank_bytes), " in all")
                     : absl::StrCat(FormatBytes(rank_bytes), " on each rank, ",
                                    FormatBytes(info.ranks * rank_bytes), " on all ", info.ranks));
  line("  weights", FormatBytes(static_cast<int64_t>(plan.weights_bytes)));
  line("  KV cache",
       absl::StrCat(FormatBytes(static_cast<int64_t>(model.kv_bytes)), " for ",
                    Grouped(info.limits.kv_tokens), " tokens, ",
                    FormatBytes(static_cast<int64_t>(plan.kv_bytes_per_token)), " each"));
  line("  workspace", FormatBytes(static_cast<int64_t>(plan.workspace_bytes)));
  if (!model.fits.ok()) line("does not fit", std::string(model.fits.message()));
  if (plan.unsupported.empty()) line("unsupported", "nothing");
  for (const std::string& what : plan.unsupported) line("unsupported", what);
}

void PrintJson(const ModelInspection& model) {
  const ModelInfo& info = model.info;
  const ModelConfig& config = info.config;
  const nlohmann::ordered_json json = {{"name", info.name},
                                       {"model_type", config.model_type},
                                       {"vocab_size", config.vocab_size},
                                       {"max_context", info.max_context},
                                       {"layers", config.layers},
                                       {"moe_layers", MoeLayers(config)},
                                       {"experts", config.experts},
                                       {"experts_per_token", config.experts_per_token},
                                       {"parameters", info.parameters},
                                       {"active_parameters", info.active_parameters},
                                       {"compute", info.compute},
                                       {"weights", info.weights},
                                       {"has_tokenizer", info.limits.has_tokenizer},
                                       {"ranks", info.ranks},
                                       {"version", BALLAST_VERSION},
                                       {"weights_bytes", model.plan.weights_bytes},
                                       {"kv_bytes_per_token", model.plan.kv_bytes_per_token},
                                       {"workspace_bytes", model.plan.workspace_bytes},
                                       {"unsupported", model.plan.unsupported}};
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  std::puts(json.dump(2, ' ', false, replace).c_str());
}

}  // namespace

int RunInspect(const std::vector<std::string>& arguments) {
  InspectOptions options;
  const auto answer = ReadInspectOptions(arguments, options);
  if (!answer.ok()) return ReportUsage("inspect", answer.status());
  if (*answer) {
    std::fputs((*answer)->c_str(), stdout);
    return kDone;
  }
  const absl::StatusOr<ModelInspection> model = InspectModel(options.engine);
  if (!model.ok()) {
    std::fprintf(stderr, "ballast inspect: %s\n", std::string(model.status().message()).c_str());
    return kFailed;
  }
  for (const std::string& warning : model->warnings) {
    std::fprintf(stderr, "ballast inspect: warning: %s\n", warning.c_str());
  }
  if (options.json) {
    PrintJson(*model);
  } else {
    PrintText(*model, options);
  }
  return FinishOutput("inspect");
}

}  // namespace ballast
