#include "bench/cuda/gpu_cases.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ballast::bench {
namespace {

using Run = std::function<void()>;

constexpr DType kF32 = DType::kF32;
constexpr DType kBF16 = DType::kBF16;

// Addresses of rows of a matrix, drawn.
std::vector<const void*> DrawnRows(const MatView& from, int64_t count) {
  std::mt19937 random(3);
  std::vector<const void*> rows;
  for (int64_t i = 0; i < count; ++i) {
    const auto row = static_cast<int64_t>(random()) % from.rows;
    rows.push_back(static_cast<const char*>(from.data) +
                   static_cast<size_t>(row * from.stride) * SizeOf(from.type));
  }
  return rows;
}

class Cases {
 public:
  Cases(const ModelShape& model, const StepShape& step, DType compute)
      : m_(model), s_(step), compute_(compute), tokens_(step.sequences * step.rows) {
    cache_ = m_.cache;
    cache_.type = compute;
    const int64_t sent = tokens_ * m_.top_k;
    groups_ = std::min(m_.own_experts, sent);
    group_rows_ = sent / groups_;
  }

  void AddRows();
  void AddAttention();
  void AddExperts();
  void AddExpertProducts();
  void AddRoutedExperts();
  void AddProducts();
  void AddSampling();

  std::vector<KernelCase> Take() { return std::move(cases_); }

 private:
  template <typename Prepare>
  void Add(const char* name, std::string shape, const KernelWork& work, const Prepare& prepare) {
    cases_.push_back({name, std::move(shape), work, prepare});
  }
  void AddProduct(const char* name, DType x, DType out, int64_t rows, int64_t n, int64_t k);

  const ModelShape m_;
  const StepShape s_;
  const DType compute_;
  const int64_t tokens_;
  KvCache cache_;
  int64_t groups_;
  int64_t group_rows_;
  std::vector<KernelCase> cases_;
};

void Cases::AddRows() {
  const std::string shape = absl::StrCat(tokens_, " x ", m_.hidden);
  const auto hidden = m_.hidden;
  const auto tokens = tokens_;
  const auto compute = compute_;
  Add("embed", shape, WorkOfEmbed(kBF16, tokens, hidden),
      [=, vocab = m_.vocab](GpuArena& a) -> Run {
        const PackedMatrix table = a.Weight(kBF16, vocab, hidden);
        const MatView out = a.Matrix(kF32, tokens, hidden);
        std::vector<int32_t> ids;
        std::mt19937 random(2);
        for (int64_t i = 0; i < tokens; ++i) {
          ids.push_back(static_cast<int32_t>(static_cast<int64_t>(random()) % vocab));
        }
        const int32_t* const list = a.Upload(ids);
        return [=, &a] { a.device().embed(a.stream(), table, list, out); };
      });
  Add("rms_norm", shape, WorkOfRmsNorm(compute, tokens, hidden), [=](GpuArena& a) -> Run {
    const MatView x = a.Matrix(kF32, tokens, hidden);
    const MatView weight = a.Matrix(kF32, 1, hidden);
    const MatView out = a.Matrix(compute, tokens, hidden);
    return [=, &a] {
      a.device().rms_norm(a.stream(), x, static_cast<const float*>(weight.data), 1e-6f, out);
    };
  });
}

void Cases::AddAttention() {
  const auto m = m_;
  const auto s = s_;
  const auto tokens = tokens_;
  const auto compute = compute_;
  Add("rope", absl::StrCat(tokens, " x ", m.heads, " heads of ", m.cache.k_dim),
      WorkOfRope(compute, tokens, m.heads, m.cache.k_dim, m.rotary_dim), [=](GpuArena& a) -> Run {
        const HeadsView x = a.Heads(kF32, tokens, m.heads, m.cache.k_dim);
        const HeadsView out = a.Heads(compute, tokens, m.heads, m.cache.k_dim);
        const MatView angles = a.Matrix(kF32, tokens, m.rotary_dim);
        return [=, &a] {
          a.device().rope(a.stream(), x, static_cast<const float*>(angles.data), m.rotary_dim,
                          m.cache.v_in_k, out);
        };
      });
  // Sequence after sequence, block after block.
  const int64_t blocks = (s.keys + kKvBlockTokens - 1) / kKvBlockTokens;
  KvCache cache = cache_;
  cache.blocks = s.sequences * blocks;
  Add("write_kv", absl::StrCat(tokens, " x ", cache.kv_heads, " heads"),
      WorkOfWriteKv(cache, tokens), [=](GpuArena& a) -> Run {
        KvCache own = cache;
        own.data = a.Numbers(a.device().kv_bytes(own));
        const HeadsView k = a.Heads(kF32, tokens, own.kv_heads, own.k_dim);
        const HeadsView v = a.Heads(kF32, tokens, own.kv_heads, own.v_dim);
        std::vector<int32_t> slots;
        for (int64_t i = 0; i < tokens; ++i) {
          slots.push_back(static_cast<int32_t>(i / s.rows * blocks * kKvBlockTokens + s.keys -
                                               s.rows + i % s.rows));
        }
        const int32_t* const list = a.Upload(slots);
        return [=, &a] { a.device().write_kv(a.stream(), own, k, v, list); };
      });
  Add("attention", absl::StrCat(s.sequences, " x ", s.rows, " of ", s.keys, " keys"),
      WorkOfAttention({cache, m.heads, compute, s.sequences, s.rows, s.keys}),
      [=](GpuArena& a) -> Run {
        KvCache own = cache;
        own.data = a.Numbers(a.device().kv_bytes(own));
        const HeadsView q = a.Heads(own.type, tokens, m.heads, own.k_dim);
        const HeadsView out = a.Heads(compute, tokens, m.heads, own.v_dim);
        std::vector<int32_t> table(static_cast<size_t>(own.blocks));
        std::iota(table.begin(), table.end(), 0);
        std::vector<AttentionSpan> spans;
        for (int64_t i = 0; i < s.sequences; ++i) {
          spans.push_back({i * s.rows, static_cast<int32_t>(s.rows),
                           static_cast<int32_t>(s.keys - s.rows), i * blocks});
        }
        const AttentionBatch batch{a.Upload(spans), s.sequences, a.Upload(table),
                                   static_cast<int32_t>(s.keys)};
        return [=, &a] {
          a.device().attention(a.stream(), own, q, batch, 0.05f, 0, /*sinks=*/nullptr, out);
        };
      });
}

void Cases::AddExperts() {
  const auto m = m_;
  const auto tokens = tokens_;
  const auto compute = compute_;
  const auto groups = groups_;
  const auto rows = group_rows_;
  Add("route", absl::StrCat(tokens, " x ", m.experts), WorkOfRoute(tokens, m.experts, m.top_k),
      [=](GpuArena& a) -> Run {
        RouterConfig config;
        config.experts = static_cast<int32_t>(m.experts);
        config.k = static_cast<int32_t>(m.top_k);
        config.normalize = true;
        const MatView logits = a.Matrix(kF32, tokens, m.experts);
        int32_t* const ids = static_cast<int32_t*>(a.Matrix(kF32, tokens, m.top_k).data);
        float* const weights = static_cast<float*>(a.Matrix(kF32, tokens, m.top_k).data);
        return [=, &a] { a.device().route(a.stream(), logits, config, nullptr, ids, weights); };
      });
  Add("copy_rows", absl::StrCat(groups * rows, " x ", m.hidden),
      WorkOfCopyRows(compute, groups * rows, m.hidden), [=](GpuArena& a) -> Run {
        const MatView x = a.Matrix(compute, tokens, m.hidden);
        const MatView out = a.Matrix(compute, groups * rows, m.hidden);
        const void** const list = a.Upload(DrawnRows(x, out.rows));
        return [=, &a] { a.device().copy_rows(a.stream(), list, out); };
      });
  Add("combine", absl::StrCat(tokens, " x ", m.hidden, " of ", m.top_k),
      WorkOfCombine(tokens, m.hidden, m.top_k), [=](GpuArena& a) -> Run {
        const MatView x = a.Matrix(kF32, tokens * m.top_k, m.hidden);
        const MatView out = a.Matrix(kF32, tokens, m.hidden);
        const MatView weights = a.Matrix(kF32, tokens, m.top_k);
        const void** const list = a.Upload(DrawnRows(x, x.rows));
        return [=, &a] {
          a.device().combine(a.stream(), reinterpret_cast<const float* const*>(list),
                             static_cast<const float*>(weights.data), static_cast<int32_t>(m.top_k),
                             MatView{}, out);
        };
      });
}

void Cases::AddExpertProducts() {
  const auto m = m_;
  const auto compute = compute_;
  const auto groups = groups_;
  const auto rows = group_rows_;
  const std::string shape = absl::StrCat(groups, " x ", rows, " rows, ");
  Add("gate_up", absl::StrCat(shape, m.hidden, " -> ", m.expert_width),
      WorkOfGateUp({compute, kBF16, compute, groups, rows, m.expert_width, m.hidden}),
      [=](GpuArena& a) -> Run {
        const auto weights = std::make_shared<std::vector<PackedMatrix>>();
        for (int64_t e = 0; e < 2 * groups; ++e) {
          weights->push_back(a.Weight(kBF16, m.expert_width, m.hidden));
        }
        std::vector<GateUpGroup> list;
        for (int64_t e = 0; e < groups; ++e) {
          const PackedMatrix* const gate = &(*weights)[static_cast<size_t>(2 * e)];
          list.push_back({gate, gate + 1, e * rows, rows});
        }
        const MatView x = a.Matrix(compute, groups * rows, m.hidden);
        const MatView out = a.Matrix(compute, groups * rows, m.expert_width);
        // `weights` is held, for the list points into it.
        return [=, &a] {
          a.device().gate_up(a.stream(), x, list.data(), static_cast<int64_t>(weights->size() / 2),
                             out);
        };
      });
  Add("matmul experts", absl::StrCat(shape, m.expert_width, " -> ", m.hidden),
      WorkOfMatmul({compute, kBF16, kF32, groups, rows, m.hidden, m.expert_width}),
      [=](GpuArena& a) -> Run {
        const auto weights = std::make_shared<std::vector<PackedMatrix>>();
        for (int64_t e = 0; e < groups; ++e) {
          weights->push_back(a.Weight(kBF16, m.hidden, m.expert_width));
        }
        std::vector<MatmulGroup> list;
        for (int64_t e = 0; e < groups; ++e) {
          list.push_back({&(*weights)[static_cast<size_t>(e)], e * rows, rows, 0, 0});
        }
        const MatView x = a.Matrix(compute, groups * rows, m.expert_width);
        const MatView out = a.Matrix(kF32, groups * rows, m.hidden);
        return [=, &a] {
          a.device().matmul(a.stream(), x, list.data(), static_cast<int64_t>(weights->size()), out,
                            false);
        };
      });
}

// As where all experts stand on this GPU.
void Cases::AddRoutedExperts() {
  const auto m = m_;
  const auto tokens = tokens_;
  const auto compute = compute_;
  const auto groups = groups_;
  Add("run_experts", absl::StrCat(tokens, " x ", m.top_k, " of ", groups),
      WorkOfRunExperts({compute, kBF16, compute, groups, group_rows_, m.expert_width, m.hidden},
                       m.experts),
      [=](GpuArena& a) -> Run {
        std::vector<MlpWeights> experts;
        for (int64_t e = 0; e < m.experts; ++e) {
          experts.push_back({a.Weight(kBF16, m.expert_width, m.hidden),
                             a.Weight(kBF16, m.expert_width, m.hidden),
                             a.Weight(kBF16, m.hidden, m.expert_width)});
        }
        const ExpertTable table = {a.Upload(experts), static_cast<int32_t>(m.experts), experts[0]};
        // Each expert as often as any other.
        const int64_t choices = tokens * m.top_k;
        std::vector<int32_t> ids;
        for (int64_t i = 0; i < choices; ++i) ids.push_back(static_cast<int32_t>(i % groups));
        const int32_t* const list = a.Upload(ids);
        const ExpertRows rows = {
            a.Matrix(compute, choices, m.hidden), a.Matrix(compute, choices, m.expert_width),
            a.Matrix(kF32, choices, m.hidden), a.Upload(std::vector<const float*>(ids.size()))};
        const MatView x = a.Matrix(compute, tokens, m.hidden);
        return [=, &a] {
          a.device().run_experts(a.stream(), x, list, static_cast<int32_t>(m.top_k), table, rows);
        };
      });
}

void Cases::AddProduct(const char* name, DType x_type, DType out_type, int64_t rows, int64_t n,
                       int64_t k) {
  Add(name, absl::StrCat(rows, " rows, ", k, " -> ", n),
      WorkOfMatmul({x_type, kBF16, out_type, 1, rows, n, k}), [=](GpuArena& a) -> Run {
        const auto weight = std::make_shared<PackedMatrix>(a.Weight(kBF16, n, k));
        const MatView x = a.Matrix(x_type, rows, k);
        const MatView out = a.Matrix(out_type, rows, n);
        return [=, &a] {
          const MatmulGroup group{weight.get(), 0, rows, 0, 0};
          a.device().matmul(a.stream(), x, &group, 1, out, false);
        };
      });
}

void Cases::AddProducts() {
  AddProduct("matmul output", compute_, kF32, tokens_, m_.hidden, m_.attended_dim);
  AddProduct("matmul router", kF32, kF32, tokens_, m_.experts, m_.hidden);
  AddProduct("matmul head", compute_, kF32, s_.sequences, m_.vocab, m_.hidden);
}

void Cases::AddSampling() {
  Add("sample", absl::StrCat(s_.sequences, " x ", m_.vocab), WorkOfSample(s_.sequences, m_.vocab),
      [rows = s_.sequences, vocab = m_.vocab](GpuArena& a) -> Run {
        std::vector<SampleParameters> parameters(static_cast<size_t>(rows));
        for (size_t i = 0; i < parameters.size(); ++i) {
          parameters[i].temperature = 1.0f;
          parameters[i].seed = i;
        }
        const SampleParameters* const list = a.Upload(parameters);
        const MatView logits = a.Matrix(kF32, rows, vocab);
        int32_t* const tokens = static_cast<int32_t*>(a.Matrix(kF32, rows, 1).data);
        return [=, &a] { a.device().sample(a.stream(), logits, list, {}, tokens); };
      });
}

}  // namespace

std::vector<KernelCase> CasesOf(const ModelShape& model, const StepShape& step, DType compute) {
  Cases cases(model, step, compute);
  cases.AddRows();
  cases.AddAttention();
  cases.AddExperts();
  cases.AddExpertProducts();
  if (model.own_experts == model.experts) cases.AddRoutedExperts();
  cases.AddProducts();
  cases.AddSampling();
  return cases.Take();
}

}  // namespace ballast::bench
