#include "engine/moe/layer.h"

namespace ballast {
namespace {

void Route(const Device& device, Stream stream, const RouterConfig& router,
           const MoeWeights& weights, const MoeBuffers& w, MatView normed,
           std::vector<int32_t>& ids) {
  const MatView logits = Rows(w.router_logits, normed.rows);
  const MatmulGroup product{&weights.router, 0, normed.rows, 0, 0};
  device.matmul(stream, normed, &product, 1, logits, false);
  device.route(stream, logits, router, weights.router_bias, w.expert_ids, w.expert_weights);
  ids.resize(normed.rows * router.k);
  device.download(stream, ids.data(), w.expert_ids, ids.size() * sizeof(int32_t));
  device.synchronize(stream);
}

void Dispatch(const Device& device, Stream stream, int32_t k, int32_t slots,
              std::span<const int32_t> slot_of_expert, const MoeBuffers& w, MatView x,
              MoeScratch& scratch) {
  SortBySlot(scratch.ids, k, slot_of_expert, slots, scratch.rows);
  const size_t bytes = scratch.ids.size() * sizeof(int32_t);
  device.upload(stream, w.source, scratch.rows.source.data(), bytes);
  device.upload(stream, w.row_of, scratch.rows.row_of.data(), bytes);
  device.copy_rows(stream, x, w.source, Rows(w.expert_x, x.rows * k));
}

void RunExperts(const Device& device, Stream stream, const MoeWeights& weights, const MoeBuffers& w,
                MoeScratch& scratch) {
  scratch.gate_up.clear();
  scratch.down.clear();
  for (size_t slot = 0; slot < weights.slots.size(); ++slot) {
    const int64_t begin = scratch.rows.slot_begin[slot];
    const int64_t rows = scratch.rows.slot_begin[slot + 1] - begin;
    if (rows == 0) continue;
    const MlpWeights& expert = weights.slots[slot];
    scratch.gate_up.push_back({&expert.gate, &expert.up, begin, rows});
    scratch.down.push_back({&expert.down, begin, rows, 0, 0});
  }
  const auto rows = static_cast<int64_t>(scratch.ids.size());
  const auto groups = static_cast<int64_t>(scratch.down.size());
  const MatView h = Rows(w.expert_h, rows);
  device.gate_up(stream, Rows(w.expert_x, rows), scratch.gate_up.data(), groups, h);
  device.matmul(stream, h, scratch.down.data(), groups, Rows(w.expert_y, rows), false);
}

}  // namespace

void RunMlp(const Device& device, Stream stream, const MlpWeights& weights, MatView x,
            MatView scratch, MatView out, bool accumulate) {
  MatView h = Rows(scratch, x.rows);
  h.cols = h.stride = weights.gate.n;
  const GateUpGroup gate_up{&weights.gate, &weights.up, 0, x.rows};
  device.gate_up(stream, x, &gate_up, 1, h);
  const MatmulGroup down{&weights.down, 0, x.rows, 0, 0};
  device.matmul(stream, h, &down, 1, out, accumulate);
}

void RunMoeLayer(const Device& device, Stream stream, const RouterConfig& router,
                 const MoeWeights& weights, std::span<const int32_t> slot_of_expert,
                 const MoeBuffers& buffers, const MoeRows& rows, MoeScratch& scratch) {
  MatView shared;
  if (weights.shared.gate.data != nullptr) {
    shared = Rows(buffers.shared, rows.x.rows);
    RunMlp(device, stream, weights.shared, rows.x, buffers.mlp, shared, false);
  }
  Route(device, stream, router, weights, buffers, rows.normed, scratch.ids);
  Dispatch(device, stream, router.k, static_cast<int32_t>(weights.slots.size()), slot_of_expert,
           buffers, rows.x, scratch);
  RunExperts(device, stream, weights, buffers, scratch);
  device.combine(stream, Rows(buffers.expert_y, rows.x.rows * router.k), buffers.row_of,
                 buffers.expert_weights, router.k, shared, rows.hidden);
}

}  // namespace ballast
