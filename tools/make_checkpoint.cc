// Writes a checkpoint with random bf16 weights of any shape, for benchmarks and tests: qwen3_moe,
// or with --hot-share a deepseek_v3 whose router biases send that share of all rows to the first
// --hot-experts experts of every layer.
//
// Deterministic: a weight depends on its tensor's place and the seed alone. Matrices are scaled by
// 1/sqrt(fan_in), so that activations neither vanish nor overflow; norms are 1.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"

namespace {

struct Shape {
  int layers = 24;
  int hidden = 1024;
  int heads = 16;
  int kv_heads = 8;
  int head_dim = 64;
  int experts = 32;
  int top_k = 8;
  int expert_width = 512;
  int vocab = 49155;
  bool tied = true;
  double hot_share = 0;  // 0: qwen3_moe
  int hot_experts = 1;
  uint64_t seed = 0;
  std::string out;
};

struct Tensor {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;  // 0: a vector: `values`, else all ones
  std::vector<float> values = {};

  int64_t elements() const { return rows * std::max<int64_t>(cols, 1); }
};

// SplitMix64's finaliser (Steele et al. 2014): counter in, 64 random bits out.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr int kSampleTokens = 2000;

// The share of choices that fall on hot experts when their scores are raised by `bias`, for router
// logits of variance 1, which is what random weights give.
double HotShare(const Shape& shape, double bias) {
  int64_t hot = 0;
  std::vector<std::pair<double, int>> scores(static_cast<size_t>(shape.experts));
  for (int token = 0; token < kSampleTokens; ++token) {
    for (int e = 0; e < shape.experts; ++e) {
      double logit = -6;  // twelve uniform numbers less six: nearly normal, variance 1
      for (int i = 0; i < 12; ++i) {
        const auto counter = (static_cast<uint64_t>(token) * 4096 + static_cast<uint64_t>(e)) * 12;
        logit += static_cast<double>(Mix(counter + static_cast<uint64_t>(i)) >> 11) * 0x1p-53;
      }
      const bool is_hot = e < shape.hot_experts;
      scores[static_cast<size_t>(e)] = {1 / (1 + std::exp(-logit)) + (is_hot ? bias : 0), is_hot};
    }
    std::partial_sort(scores.begin(), scores.begin() + shape.top_k, scores.end(),
                      std::greater<std::pair<double, int>>());
    for (int i = 0; i < shape.top_k; ++i) hot += scores[static_cast<size_t>(i)].second;
  }
  return static_cast<double>(hot) / kSampleTokens / shape.top_k;
}

std::vector<float> RouterBias(const Shape& shape) {
  double low = -1;
  double high = 1;
  for (int i = 0; i < 12; ++i) {
    const double middle = (low + high) / 2;
    (HotShare(shape, middle) < shape.hot_share ? low : high) = middle;
  }
  std::vector<float> bias(static_cast<size_t>(shape.experts), 0.0f);
  std::fill(bias.begin(), bias.begin() + shape.hot_experts, static_cast<float>(high));
  return bias;
}

// deepseek_v3's latent attention: a quarter of the hidden size as latent, rope of half a head.
void AddLatentAttention(const Shape& shape, const std::string& layer,
                        std::vector<Tensor>& tensors) {
  const int64_t hidden = shape.hidden;
  const int64_t latent = hidden / 4;
  const int64_t heads = shape.heads;
  const int64_t rope = shape.head_dim / 2;
  tensors.push_back({layer + "self_attn.q_proj.weight", heads * (shape.head_dim + rope), hidden});
  tensors.push_back({layer + "self_attn.kv_a_proj_with_mqa.weight", latent + rope, hidden});
  tensors.push_back({layer + "self_attn.kv_a_layernorm.weight", latent});
  tensors.push_back({layer + "self_attn.kv_b_proj.weight", heads * 2 * shape.head_dim, latent});
  tensors.push_back({layer + "self_attn.o_proj.weight", hidden, heads * shape.head_dim});
}

std::vector<Tensor> ListTensors(const Shape& shape) {
  std::vector<Tensor> tensors;
  const auto add = [&](const std::string& name, int64_t rows, int64_t cols) {
    tensors.push_back({name + ".weight", rows, cols});
  };
  const int64_t hidden = shape.hidden;
  const int64_t q_size = int64_t{shape.heads} * shape.head_dim;
  const int64_t kv_size = int64_t{shape.kv_heads} * shape.head_dim;
  const std::vector<float> bias = shape.hot_share > 0 ? RouterBias(shape) : std::vector<float>();
  add("model.embed_tokens", shape.vocab, hidden);
  for (int i = 0; i < shape.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm", hidden, 0);
    add(layer + "post_attention_layernorm", hidden, 0);
    if (shape.hot_share > 0) {
      AddLatentAttention(shape, layer, tensors);
      tensors.push_back({layer + "mlp.gate.e_score_correction_bias", shape.experts, 0, bias});
    } else {
      add(layer + "self_attn.q_proj", q_size, hidden);
      add(layer + "self_attn.k_proj", kv_size, hidden);
      add(layer + "self_attn.v_proj", kv_size, hidden);
      add(layer + "self_attn.o_proj", hidden, q_size);
      add(layer + "self_attn.q_norm", shape.head_dim, 0);
      add(layer + "self_attn.k_norm", shape.head_dim, 0);
    }
    add(layer + "mlp.gate", shape.experts, hidden);
    for (int e = 0; e < shape.experts; ++e) {
      const std::string expert = layer + "mlp.experts." + std::to_string(e) + ".";
      add(expert + "gate_proj", shape.expert_width, hidden);
      add(expert + "up_proj", shape.expert_width, hidden);
      add(expert + "down_proj", hidden, shape.expert_width);
    }
  }
  add("model.norm", hidden, 0);
  if (!shape.tied) add("lm_head", shape.vocab, hidden);
  return tensors;
}

std::string ConfigText(const Shape& shape) {
  const auto number = [](int value) { return std::to_string(value); };
  const std::string family =
      shape.hot_share > 0
          ? "\"architectures\": [\"DeepseekV3ForCausalLM\"],\n  \"model_type\": \"deepseek_v3\""
            ",\n  \"n_routed_experts\": " +
                number(shape.experts) + ",\n  \"kv_lora_rank\": " + number(shape.hidden / 4) +
                ",\n  \"qk_nope_head_dim\": " + number(shape.head_dim) +
                ",\n  \"qk_rope_head_dim\": " + number(shape.head_dim / 2) +
                ",\n  \"v_head_dim\": " + number(shape.head_dim) +
                ",\n  \"q_lora_rank\": null,\n  \"first_k_dense_replace\": 0"
                ",\n  \"n_shared_experts\": 0,\n  \"n_group\": 1,\n  \"topk_group\": 1"
                ",\n  \"routed_scaling_factor\": 1.0"
          : "\"architectures\": [\"Qwen3MoeForCausalLM\"],\n  \"model_type\": \"qwen3_moe\""
            ",\n  \"num_experts\": " +
                number(shape.experts) + ",\n  \"head_dim\": " + number(shape.head_dim) +
                ",\n  \"decoder_sparse_step\": 1,\n  \"mlp_only_layers\": []";
  return "{\n  " + family + ",\n  \"num_hidden_layers\": " + number(shape.layers) +
         ",\n  \"hidden_size\": " + number(shape.hidden) +
         ",\n  \"num_attention_heads\": " + number(shape.heads) + ",\n  \"num_key_value_heads\": " +
         number(shape.hot_share > 0 ? shape.heads : shape.kv_heads) +
         ",\n  \"num_experts_per_tok\": " + number(shape.top_k) +
         ",\n  \"moe_intermediate_size\": " + number(shape.expert_width) +
         ",\n  \"intermediate_size\": " + number(shape.expert_width) +
         ",\n  \"vocab_size\": " + number(shape.vocab) +
         ",\n  \"tie_word_embeddings\": " + (shape.tied ? "true" : "false") +
         ",\n  \"max_position_embeddings\": 32768,\n  \"rms_norm_eps\": 1e-06"
         ",\n  \"rope_theta\": 1000000.0,\n  \"norm_topk_prob\": true,\n  \"hidden_act\": \"silu\""
         ",\n  \"attention_bias\": false,\n  \"torch_dtype\": \"bfloat16\"\n}\n";
}

std::string HeaderText(const std::vector<Tensor>& tensors) {
  std::string json = "{";
  int64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    const int64_t end = offset + 2 * tensor.elements();
    json += json.size() > 1 ? "," : "";
    json += "\"" + tensor.name + "\":{\"dtype\":\"BF16\",\"shape\":[" +
            std::to_string(tensor.rows) +
            (tensor.cols > 0 ? "," + std::to_string(tensor.cols) : "") + "],\"data_offsets\":[" +
            std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  json += "}";
  // Data that begins on a multiple of 8 can be read in place.
  json.resize((json.size() + 7) / 8 * 8, ' ');
  return json;
}

uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Uniform in [-sqrt(3), sqrt(3)) / sqrt(fan_in): variance 1 / fan_in.
void WriteTensor(const Tensor& tensor, uint64_t key, std::ofstream& file) {
  constexpr int64_t kChunk = 1 << 20;
  const int64_t elements = tensor.elements();
  const float scale = tensor.cols > 0 ? std::sqrt(3.0f / static_cast<float>(tensor.cols)) : 0.0f;
  std::vector<uint16_t> chunk;
  for (int64_t begin = 0; begin < elements; begin += kChunk) {
    const int64_t count = std::min(kChunk, elements - begin);
    chunk.assign(static_cast<size_t>(count), ToBf16(1.0f));
    std::transform(tensor.values.begin(), tensor.values.end(), chunk.begin(), ToBf16);
    for (int64_t i = 0; tensor.cols > 0 && i < count; ++i) {
      // Four 16-bit numbers of one draw serve four weights.
      const uint64_t index = static_cast<uint64_t>(begin + i);
      const uint64_t draw = Mix(key + (index >> 2)) >> (16 * (index & 3));
      const float unit = static_cast<float>(static_cast<int16_t>(draw & 0xffff)) * 0x1p-15f;
      chunk[static_cast<size_t>(i)] = ToBf16(unit * scale);
    }
    file.write(reinterpret_cast<const char*>(chunk.data()), 2 * count);
  }
}

bool WriteCheckpoint(const Shape& shape) {
  const std::filesystem::path folder = shape.out;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::ofstream config(folder / "config.json");
  config << ConfigText(shape);
  config.close();
  const std::vector<Tensor> tensors = ListTensors(shape);
  const std::string header = HeaderText(tensors);
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  for (int i = 0; i < 8; ++i) file.put(static_cast<char>(header.size() >> (8 * i) & 0xff));
  file << header;
  int64_t parameters = 0;
  for (size_t i = 0; i < tensors.size() && file; ++i) {
    WriteTensor(tensors[i], Mix(Mix(shape.seed) + i), file);
    parameters += tensors[i].elements();
  }
  file.close();
  if (!config || !file) {
    std::fprintf(stderr, "%s: cannot write the checkpoint\n", shape.out.c_str());
    return false;
  }
  std::fprintf(stderr, "%s: %lld parameters\n", shape.out.c_str(),
               static_cast<long long>(parameters));
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes a checkpoint with random bf16 weights");
  Shape shape;
  const auto option = [&](const char* name, int& value, int most) {
    app.add_option(name, value)->check(CLI::Range(1, most))->capture_default_str();
  };
  option("--layers", shape.layers, 10'000);
  option("--hidden", shape.hidden, 1 << 18);
  option("--heads", shape.heads, 4096);
  option("--kv-heads", shape.kv_heads, 4096);
  option("--head-dim", shape.head_dim, 4096);
  option("--experts", shape.experts, 4096);
  option("--top-k", shape.top_k, 4096);
  option("--expert-width", shape.expert_width, 1 << 20);
  option("--vocab", shape.vocab, 1 << 24);
  option("--hot-experts", shape.hot_experts, 4096);
  app.add_option("--hot-share", shape.hot_share, "Of all rows, to the hot experts; 0: no bias")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  app.add_option("--tied", shape.tied, "Embedding and output head are one matrix")
      ->capture_default_str();
  app.add_option("--seed", shape.seed)->capture_default_str();
  app.add_option("--out", shape.out, "Folder to write")->required();
  CLI11_PARSE(app, argc, argv);
  if (shape.heads % shape.kv_heads != 0 || shape.top_k > shape.experts ||
      shape.hot_experts > shape.experts || shape.head_dim % 4 != 0) {
    std::fprintf(stderr,
                 "--heads must be a multiple of --kv-heads, --head-dim of 4, --top-k and "
                 "--hot-experts at most --experts\n");
    return 2;
  }
  return WriteCheckpoint(shape) ? 0 : 1;
}
