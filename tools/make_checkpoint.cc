// Writes a qwen3_moe checkpoint with random bf16 weights of any shape, for benchmarks and tests.
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
#include <string>
#include <string_view>
#include <system_error>
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
  uint64_t seed = 0;
  std::string out;
};

struct Tensor {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;  // 0: a norm, all ones

  int64_t elements() const { return rows * std::max<int64_t>(cols, 1); }
};

std::vector<Tensor> ListTensors(const Shape& shape) {
  std::vector<Tensor> tensors;
  const auto add = [&](const std::string& name, int64_t rows, int64_t cols) {
    tensors.push_back({name + ".weight", rows, cols});
  };
  const int64_t hidden = shape.hidden;
  const int64_t q_size = int64_t{shape.heads} * shape.head_dim;
  const int64_t kv_size = int64_t{shape.kv_heads} * shape.head_dim;
  add("model.embed_tokens", shape.vocab, hidden);
  for (int i = 0; i < shape.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm", hidden, 0);
    add(layer + "post_attention_layernorm", hidden, 0);
    add(layer + "self_attn.q_proj", q_size, hidden);
    add(layer + "self_attn.k_proj", kv_size, hidden);
    add(layer + "self_attn.v_proj", kv_size, hidden);
    add(layer + "self_attn.o_proj", hidden, q_size);
    add(layer + "self_attn.q_norm", shape.head_dim, 0);
    add(layer + "self_attn.k_norm", shape.head_dim, 0);
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
  return "{\n  \"architectures\": [\"Qwen3MoeForCausalLM\"],\n  \"model_type\": \"qwen3_moe\""
         ",\n  \"num_hidden_layers\": " +
         number(shape.layers) + ",\n  \"hidden_size\": " + number(shape.hidden) +
         ",\n  \"num_attention_heads\": " + number(shape.heads) +
         ",\n  \"num_key_value_heads\": " + number(shape.kv_heads) +
         ",\n  \"head_dim\": " + number(shape.head_dim) +
         ",\n  \"num_experts\": " + number(shape.experts) +
         ",\n  \"num_experts_per_tok\": " + number(shape.top_k) +
         ",\n  \"moe_intermediate_size\": " + number(shape.expert_width) +
         ",\n  \"intermediate_size\": " + number(shape.expert_width) +
         ",\n  \"vocab_size\": " + number(shape.vocab) +
         ",\n  \"tie_word_embeddings\": " + (shape.tied ? "true" : "false") +
         ",\n  \"max_position_embeddings\": 32768,\n  \"rms_norm_eps\": 1e-06"
         ",\n  \"rope_theta\": 1000000.0,\n  \"norm_topk_prob\": true"
         ",\n  \"decoder_sparse_step\": 1,\n  \"mlp_only_layers\": [],\n  \"hidden_act\": \"silu\""
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

// SplitMix64's finaliser (Steele et al. 2014): counter in, 64 random bits out.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
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
  CLI::App app("Writes a qwen3_moe checkpoint with random bf16 weights");
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
  app.add_option("--tied", shape.tied, "Embedding and output head are one matrix")
      ->capture_default_str();
  app.add_option("--seed", shape.seed)->capture_default_str();
  app.add_option("--out", shape.out, "Folder to write")->required();
  CLI11_PARSE(app, argc, argv);
  if (shape.heads % shape.kv_heads != 0 || shape.top_k > shape.experts || shape.head_dim % 2 != 0) {
    std::fprintf(stderr,
                 "--heads must be a multiple of --kv-heads, --head-dim even, --top-k at most "
                 "--experts\n");
    return 2;
  }
  return WriteCheckpoint(shape) ? 0 : 1;
}
