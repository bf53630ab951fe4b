// Everything the engine may ask of a device: memory and whole-matrix arithmetic.
//
// One table per device, chosen once at start-up and passed down by reference, so the indirect call
// costs once per matrix, never per element. Entries do not fail, nor do they allocate, but for
// `allocate` and streams, whose working memory grows to the shapes met (or the process ends).
// Shapes are the caller's promise. All pointers in views and argument structs are device memory.
//
// The promise (docs/architecture.md): every output element is computed by one chain of operations
// whose order depends on the reduced dimension alone, never on the number of rows, the thread count
// or what else is in the batch. So a row's bits do not depend on its company.
//   - dot products: one chain of fused multiply-adds in k order (with bf16 inputs a device may use
//     its own pairwise instruction, in k order too);
//   - sums over a row (norms, softmax): 16 interleaved partial sums, lane j taking the elements
//     k with k % 16 == j, then halved pairwise (8, 4, 2, 1);
//   - attention: keys in partitions of kAttentionPartition, each reduced by itself, merged in
//   order.
//
// Threading: a Stream belongs to one caller at a time. Different streams may run at once on
// different memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/sampling.h"

namespace ballast {

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr size_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

constexpr const char* NameOf(DType type) {
  return type == DType::kF32 ? "F32" : type == DType::kBF16 ? "BF16" : "F16";
}

// Tokens per block of the paged KV cache, and lanes of every interleaved sum.
inline constexpr int kKvBlockTokens = 16;
// Keys that attention reduces before it merges; a multiple of kKvBlockTokens.
inline constexpr int kAttentionPartition = 256;

// Row-major matrix; `stride` counts elements from one row to the next (>= cols).
struct MatView {
  void* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
};

// [rows, heads, dim] with free strides (in elements): queries, keys, values or parts of them.
struct HeadsView {
  void* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t row_stride = 0;
  int64_t heads = 0;
  int64_t head_stride = 0;
  int64_t dim = 0;
};

// A matrix as a checkpoint holds it, in host memory; strides in elements, so that a transposed or
// interleaved matrix needs no copy before it is packed. `data` need not be aligned.
struct HostMatrix {
  const void* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;  // n, the outputs
  int64_t cols = 0;  // k, the reduced dimension
  int64_t row_stride = 0;
  int64_t col_stride = 1;
};

// A weight matrix [n, k] in the device's own layout. Made by `pack`; `data` is
// `packed_bytes(type, n, k)` bytes from `allocate`. type is kF32 or kBF16.
struct PackedMatrix {
  void* data = nullptr;
  DType type = DType::kBF16;
  int64_t n = 0;
  int64_t k = 0;
};

// out[rows of the group, out_col .. out_col+n) = x[rows of the group, x_col .. x_col+k) * weight^T.
// A plain matmul is one group; experts are groups of rows; per-head products are groups of columns.
struct MatmulGroup {
  const PackedMatrix* weight = nullptr;
  int64_t row_begin = 0;
  int64_t rows = 0;
  int64_t x_col = 0;
  int64_t out_col = 0;
};

// out[rows of the group] = silu(x * gate^T) * (x * up^T).
struct GateUpGroup {
  const PackedMatrix* gate = nullptr;
  const PackedMatrix* up = nullptr;
  int64_t row_begin = 0;
  int64_t rows = 0;
};

// One SwiGLU block: a dense layer's, a shared expert's or an expert's.
struct MlpWeights {
  PackedMatrix gate;  // [intermediate, hidden]
  PackedMatrix up;    // [intermediate, hidden]
  PackedMatrix down;  // [hidden, intermediate]
};

// The experts of a layer that all stand on one device, by number.
struct ExpertTable {
  const MlpWeights* experts = nullptr;  // [count], in device memory itself
  int32_t count = 0;
  MlpWeights shape;  // type, n and k of each that is chosen; data is not used
};

// What run_experts works in, with C = rows of x * k choices: matrices of C rows or more. One
// expert's rows lie together, in an order that is the device's own.
struct ExpertRows {
  MatView x;                        // x's type [C, hidden]
  MatView h;                        // x's type [C, intermediate]
  MatView y;                        // f32 [C, hidden]
  const float** answers = nullptr;  // [C] where the answer to each choice lies in y
};

// One layer's keys and values, paged. The layout inside a block is the device's own.
// With `v_in_k` the values are the first v_dim entries of the keys (MLA's latent, kv_heads = 1) and
// take no memory of their own.
struct KvCache {
  void* data = nullptr;      // kv_bytes(cache) bytes from `allocate`; need not be cleared
  DType type = DType::kF32;  // kF32 or kBF16
  int64_t blocks = 0;
  int64_t kv_heads = 0;
  int64_t k_dim = 0;
  int64_t v_dim = 0;
  bool v_in_k = false;
};

// Consecutive rows of one sequence. The sequence's keys up to each row's own position are attended.
struct AttentionSpan {
  int64_t row_begin = 0;       // first row in q and out
  int32_t rows = 0;            // >= 1
  int32_t first_position = 0;  // position of the first row; row i has first_position + i
  int64_t table_begin = 0;     // where the sequence's block table begins in `block_tables`
};

struct AttentionBatch {
  const AttentionSpan* spans = nullptr;  // in the order of their rows, which they do not share
  int64_t num_spans = 0;
  const int32_t* block_tables = nullptr;  // block numbers, position p lives in entry p / 16
  // No row's position is this or more; a device that cannot read the spans sizes its work by it.
  int32_t max_keys = 0;
};

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };

// How router logits [rows, experts] become expert choices; reference: DeepSeek-V3 report section
// 2.1.2 and the routers of transformers 5.23. In float32 throughout. Ties go to the lower index.
//   score: p = softmax(logits) or sigmoid(logits)
//   choice = p + bias (bias may be null); with groups > 1 the experts are cut into `groups` equal
//   runs, a group is worth the sum of its 2 largest choices, and all but the best `topk_group`
//   groups are set to -inf
//   ids = the k largest choices, best first; weights = p[ids] (never the biased value)
//   normalize: weights /= sum(weights) + normalize_epsilon; then weights *= scale
struct RouterConfig {
  RouterScore score = RouterScore::kSoftmax;
  int32_t experts = 0;
  int32_t k = 0;
  int32_t groups = 1;
  int32_t topk_group = 1;
  bool normalize = false;
  float normalize_epsilon = 0.0f;
  float scale = 1.0f;
};

// Where work runs: on the CPU a pool of threads (the caller is one of them), on a GPU a queue of
// one of them. Opaque.
struct Stream {
  void* handle = nullptr;
};

// What `allocate` promises, kept by the pieces that one allocation is cut into.
inline constexpr size_t kMemoryAlignment = 64;

constexpr size_t AlignUp(size_t bytes) {
  return (bytes + kMemoryAlignment - 1) / kMemoryAlignment * kMemoryAlignment;
}

struct Device {
  const char* name;     // "cpu"
  const char* kernels;  // "reference", "avx2", "avx512"; shown in logs and metrics

  // The host may read and write this device's memory as its own.
  bool host_memory;

  // --- memory and streams -----------------------------------------------------------------------
  // How many pieces of hardware, numbered from 0, that take one rank of this process each: GPUs.
  // 0: all ranks share the machine, which is unit 0.
  int (*units)();
  // Bytes that could be allocated on a unit now.
  size_t (*available_memory)(int unit);
  // Work on a unit; where that is the CPU, by so many threads.
  Stream (*create_stream)(int unit, int threads);
  void (*destroy_stream)(Stream stream);
  // Memory of the stream's unit, aligned to kMemoryAlignment, or null when there is none. `bytes`
  // is given back to `release`, when no work uses it any more.
  void* (*allocate)(Stream stream, size_t bytes);
  void (*release)(void* data, size_t bytes);
  // What `host_src` holds is taken at the call; what comes to `host_dst` is there after
  // `await_downloads` or `synchronize`.
  void (*upload)(Stream stream, void* device_dst, const void* host_src, size_t bytes);
  void (*download)(Stream stream, void* host_dst, const void* device_src, size_t bytes);
  // Device memory to device memory, another rank's of this process included.
  void (*copy)(Stream stream, void* dst, const void* src, size_t bytes);
  // Waits for all work given to the stream. Null, or what it failed with: then nothing that came
  // of it since the stream was created can be trusted, nor will it do more. Lives with the stream.
  const char* (*synchronize)(Stream stream);
  // As synchronize, but waits for the downloads given so far and what came before them only: work
  // given since goes on meanwhile.
  const char* (*await_downloads)(Stream stream);

  // --- pieces that come again -------------------------------------------------------------------
  // A piece of work is verbs with arguments that `key` stands for: the same key, the same verbs,
  // addresses and shapes; what lies at the addresses may change. `replay` gives the piece to the
  // stream at once, if the device has kept it, and is true then. Else the caller gives the verbs,
  // and then calls `end_piece`: the device may keep them. Between the two there are verbs only, no
  // upload, download or waiting; pieces are not nested. (CUDA graphs.)
  bool (*replay)(Stream stream, uint64_t key);
  void (*end_piece)(Stream stream);

  // --- weights ----------------------------------------------------------------------------------
  size_t (*packed_bytes)(DType type, int64_t n, int64_t k);
  // `out` has type, n, k and data set. Converts when types differ (to bf16: nearest even).
  void (*pack)(Stream stream, HostMatrix in, PackedMatrix out);
  // out[i, :] = table[ids[i], :], widened to f32.
  void (*embed)(Stream stream, const PackedMatrix& table, const int32_t* ids, MatView out);

  // --- rows -------------------------------------------------------------------------------------
  // out = x * rsqrt(mean(x^2) + eps) * weight. x is f32, out f32 or bf16; x may be out.
  void (*rms_norm)(Stream stream, MatView x, const float* weight, float eps, MatView out);
  // out = x in out's type; x and out do not overlap unless equal types make it a copy in place.
  void (*convert)(Stream stream, MatView x, MatView out);
  // x = min(max(x, -limit), limit), f32.
  void (*clamp)(Stream stream, MatView x, float limit);
  // Rotary embedding of the first `rotary_dim` entries of every head; the others are copied.
  // cos_sin [rows, rotary_dim]: rotary_dim/2 cosines, then as many sines. Half style pairs entry i
  // with i + rotary_dim/2; `interleaved` reads the pair (2i, 2i+1) and writes it half style, as
  // DeepSeek does. x is f32; out f32 or bf16; out may be x when it is f32 and not interleaved.
  void (*rope)(Stream stream, HeadsView x, const float* cos_sin, int64_t rotary_dim,
               bool interleaved, HeadsView out);

  // --- matrices ---------------------------------------------------------------------------------
  // out = x * weight^T for every group; with `accumulate` (f32 out) out += x * weight^T, the whole
  // product being added once. x f32 with any weight, or bf16 with bf16 weights; out f32 or bf16.
  void (*matmul)(Stream stream, MatView x, const MatmulGroup* groups, int64_t num_groups,
                 MatView out, bool accumulate);
  // SwiGLU's first half. Types as in matmul.
  void (*gate_up)(Stream stream, MatView x, const GateUpGroup* groups, int64_t num_groups,
                  MatView out);

  // --- attention --------------------------------------------------------------------------------
  size_t (*kv_bytes)(const KvCache& cache);
  // Row i goes to slot slots[i] = block * kKvBlockTokens + offset. What lies in slots past a row's
  // own position never reaches its sums. k, v are f32; `v` is ignored with v_in_k.
  // Rows of one sequence come in position order.
  void (*write_kv)(Stream stream, const KvCache& cache, HeadsView k, HeadsView v,
                   const int32_t* slots);
  // out[row, head] = softmax(scale * q . k) v over positions <= the row's own, and with window > 0
  // only the last `window` of them. q has the cache's type; heads is a multiple of kv_heads, query
  // head h reads kv head h / (heads / kv_heads). out f32 or bf16, dim v_dim.
  // With `sinks` [heads], f32, the softmax of head h has one more score, sinks[h], whose value is 0
  // and which no window leaves out (gpt-oss): a partition of its own, merged last. Null: none.
  void (*attention)(Stream stream, const KvCache& cache, HeadsView q, const AttentionBatch& batch,
                    float scale, int32_t window, const float* sinks, HeadsView out);

  // --- experts ----------------------------------------------------------------------------------
  // ids, weights [rows, k]; bias [experts] or null.
  void (*route)(Stream stream, MatView logits, const RouterConfig& config, const float* bias,
                int32_t* ids, float* weights);
  // out[i, :] = the out.cols entries of out's type at rows[i]: rows come from anywhere in device
  // memory, another rank's included.
  void (*copy_rows)(Stream stream, const void* const* rows, MatView out);
  // out[t, :] += sum over choices j = 0 .. k-1, in that order, of weights[t, j] * the row at
  // rows[t*k + j], then + shared[t, :] when shared.data is set; the sum is formed first and added
  // to out once. All f32.
  void (*combine)(Stream stream, const float* const* rows, const float* weights, int32_t k,
                  MatView shared, MatView out);

  // All between route and combine where every expert stands on this device: the row at answers[i]
  // becomes what expert ids[i] makes of row i / k of x, with the bits that gate_up and matmul give
  // it. ids [x.rows, k], below table.count. The host learns nothing of the routing, and what is
  // given to the device depends on shapes alone, so that it can be repeated for other ids, weights
  // and addresses in the table.
  void (*run_experts)(Stream stream, MatView x, const int32_t* ids, int32_t k,
                      const ExpertTable& table, const ExpertRows& rows);

  // --- sampling ---------------------------------------------------------------------------------
  // tokens[i] = what rows[i] makes of logits[i, :] (kernels/sampling.h); where one of them is NaN
  // or infinite, kNotFinite, for a known target too. logits [rows, vocab], f32, vocab 1 .. 2^23;
  // overwritten. rows, sides' arrays and tokens [rows] are device memory.
  void (*sample)(Stream stream, MatView logits, const SampleParameters* rows,
                 const SampleSides& sides, int32_t* tokens);
};

}  // namespace ballast
