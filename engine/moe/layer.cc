#include "engine/moe/layer.h"

#include <chrono>
#include <thread>

#include "engine/synchronize.h"

namespace ballast {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The lent expert where its lender, a rank of this process, holds it.
const MlpWeights& WeightsOfLender(const MoeLayer& layer, const Spill& spill) {
  const Replicas& replicas = layer.replicas;
  int32_t slot = -1;
  for (const int32_t held : replicas.SlotsOf(spill.expert)) {
    if (replicas.slot_rank[held] == spill.from) slot = held;
  }
  return layer.ranks[spill.from]->slots[slot % replicas.slots_per_rank];
}

const MlpWeights& WeightsOfTarget(const MoeRank& r, const MoeLayer& layer, int32_t target) {
  const Replicas& replicas = layer.replicas;
  if (target < replicas.slots()) {
    return layer.ranks[r.comm.rank()]->slots[target % replicas.slots_per_rank];
  }
  const int32_t spill = target - replicas.slots();
  const MlpWeights* borrowed = r.loans == nullptr ? nullptr : r.loans->Borrowed(spill);
  return borrowed != nullptr ? *borrowed
                             : WeightsOfLender(layer, r.scratch.assignment.spills[spill]);
}

// Starts sending weights between processes; rows are dispatched meanwhile.
absl::Status StartLoans(const MoeRank& r, const MoeLayer& layer) {
  if (r.loans == nullptr) return absl::OkStatus();
  const std::vector<Spill>& spills = r.scratch.assignment.spills;
  for (size_t i = 0; i < spills.size(); ++i) {
    const Spill& spill = spills[i];
    if (spill.from == r.comm.rank() && layer.ranks[spill.to] == nullptr) {
      r.loans->Lend(spill.to, WeightsOfLender(layer, spill));
    }
    if (spill.to == r.comm.rank() && layer.ranks[spill.from] == nullptr) {
      r.loans->Borrow(spill.from, i, layer.shapes[spill.expert]);
    }
  }
  return r.loans->Start();
}

absl::Status AwaitLoans(const MoeRank& r) {
  if (r.loans == nullptr) return absl::OkStatus();
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(r.loans->AwaitBorrowed());
  r.scratch.wait_seconds += SecondsSince(start);
  return absl::OkStatus();
}

// Every rank learns all counts and comes to the same split.
absl::Status AssignRows(const MoeRank& r, const Replicas& replicas) {
  MoeScratch& s = r.scratch;
  s.counts.resize(replicas.experts);
  CountRows(s.ids, s.counts);
  s.all_counts.resize(static_cast<size_t>(replicas.ranks) * replicas.experts);
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(r.comm.AllGather(s.counts, s.all_counts));
  s.wait_seconds += SecondsSince(start);
  Assign(s.all_counts, replicas, r.costs, s.assign, s.assignment);
  if (r.costs.force_spills) {
    ForceSpills(replicas, r.costs.max_imports, s.assignment.slot_rows, s.assignment.spills);
  }
  Split(s.all_counts, replicas, s.assignment, s.split_scratch, s.split);
  PlanDispatch(r.comm.rank(), s.ids, r.router.k, replicas, s.assignment.spills, s.split, s.dispatch,
               s.plan);
  return absl::OkStatus();
}

// Brings the rows of this rank's experts together, by target.
absl::Status Dispatch(const MoeRank& r, MatView x) {
  MoeScratch& s = r.scratch;
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(r.comm.ExchangeRows(x, s.plan.give, s.plan.receive_counts, s.received));
  s.wait_seconds += SecondsSince(start);
  const size_t rows = s.plan.order.size();
  s.pointers.resize(rows);
  for (size_t i = 0; i < rows; ++i) s.pointers[i] = s.received[s.plan.order[i]];
  r.device.upload(r.stream, r.buffers.rows, s.pointers.data(), rows * sizeof(void*));
  r.device.copy_rows(r.stream, r.buffers.rows,
                     Rows(r.buffers.expert_x, static_cast<int64_t>(rows)));
  return absl::OkStatus();
}

absl::Status RunExperts(const MoeRank& r, const MoeLayer& layer) {
  MoeScratch& s = r.scratch;
  const Clock::time_point start = Clock::now();
  s.gate_up.clear();
  s.down.clear();
  s.timing = {};
  for (size_t t = 0; t < s.plan.targets.size(); ++t) {
    const int64_t begin = s.plan.target_begin[t];
    const int64_t rows = s.plan.target_begin[t + 1] - begin;
    if (rows == 0) continue;
    const MlpWeights& expert = WeightsOfTarget(r, layer, s.plan.targets[t]);
    s.gate_up.push_back({&expert.gate, &expert.up, begin, rows});
    s.down.push_back({&expert.down, begin, rows, 0, 0});
    ++s.timing.live_experts;
    s.timing.tiles += TilesOf(rows, r.costs.tile_rows);
  }
  if (s.down.empty()) return absl::OkStatus();
  const auto rows = static_cast<int64_t>(s.plan.order.size());
  const auto groups = static_cast<int64_t>(s.down.size());
  const MatView h = Rows(r.buffers.expert_h, rows);
  r.device.gate_up(r.stream, Rows(r.buffers.expert_x, rows), s.gate_up.data(), groups, h);
  r.device.matmul(r.stream, h, s.down.data(), groups, Rows(r.buffers.expert_y, rows), false);
  RETURN_IF_ERROR(Synchronize(r.device, r.stream));
  if (r.slowdown > 1) {
    std::this_thread::sleep_for(
        std::chrono::duration<double>(SecondsSince(start) * (r.slowdown - 1)));
  }
  s.timing.seconds = SecondsSince(start);
  return absl::OkStatus();
}

// What shared experts make of the rows; no data: there are none.
MatView RunSharedExperts(const MoeRank& r, const MoeWeights& weights, MatView x) {
  if (weights.shared.gate.data == nullptr) return {};
  const MatView out = Rows(r.buffers.shared, x.rows);
  RunMlp(r.device, r.stream, weights.shared, x, r.buffers.mlp, out, false);
  return out;
}

// Sends answers back and adds them up in choice order, whichever rank they come from.
absl::Status Combine(const MoeRank& r, MatView shared, MatView hidden) {
  MoeScratch& s = r.scratch;
  const MatView y = Rows(r.buffers.expert_y, static_cast<int64_t>(s.plan.order.size()));
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(r.comm.ExchangeRows(y, s.plan.back, s.plan.return_counts, s.received));
  s.wait_seconds += SecondsSince(start);
  s.pointers.resize(s.ids.size());
  for (size_t i = 0; i < s.received.size(); ++i) s.pointers[s.plan.choice[i]] = s.received[i];
  r.device.upload(r.stream, r.buffers.rows, s.pointers.data(), s.pointers.size() * sizeof(void*));
  r.device.combine(r.stream, reinterpret_cast<const float* const*>(r.buffers.rows),
                   r.buffers.expert_weights, r.router.k, shared, hidden);
  return absl::OkStatus();
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

void RouteRows(const MoeRank& rank, const MoeWeights& weights, MatView normed) {
  const MoeBuffers& w = rank.buffers;
  const MatView logits = Rows(w.router_logits, normed.rows);
  const MatmulGroup product{&weights.router, 0, normed.rows, 0, 0};
  rank.device.matmul(rank.stream, normed, &product, 1, logits, false);
  rank.device.route(rank.stream, logits, rank.router, weights.router_bias, w.expert_ids,
                    w.expert_weights);
}

void RunTableLayer(const MoeRank& rank, const MoeWeights& weights, const ExpertTable& table,
                   const MoeRows& rows) {
  const MoeBuffers& w = rank.buffers;
  const MatView shared = RunSharedExperts(rank, weights, rows.x);
  const auto answers = reinterpret_cast<const float**>(w.rows);
  rank.device.run_experts(rank.stream, rows.x, w.expert_ids, rank.router.k, table,
                          {w.expert_x, w.expert_h, w.expert_y, answers});
  rank.device.combine(rank.stream, answers, w.expert_weights, rank.router.k, shared, rows.hidden);
}

absl::Status RunMoeLayer(const MoeRank& rank, const MoeLayer& layer, const MoeRows& rows) {
  const MoeWeights& weights = *layer.ranks[rank.comm.rank()];
  rank.scratch.ids.resize(rows.x.rows * rank.router.k);
  rank.device.download(rank.stream, rank.scratch.ids.data(), rank.buffers.expert_ids,
                       rank.scratch.ids.size() * sizeof(int32_t));
  // A GPU is busy with these while the host assigns rows.
  const MatView shared = RunSharedExperts(rank, weights, rows.x);
  RETURN_IF_ERROR(AwaitDownloads(rank.device, rank.stream));
  RETURN_IF_ERROR(AssignRows(rank, layer.replicas));
  RETURN_IF_ERROR(StartLoans(rank, layer));
  RETURN_IF_ERROR(Dispatch(rank, rows.x));
  RETURN_IF_ERROR(AwaitLoans(rank));
  RETURN_IF_ERROR(RunExperts(rank, layer));
  RETURN_IF_ERROR(Combine(rank, shared, rows.hidden));
  return rank.loans == nullptr ? absl::OkStatus() : rank.loans->Finish();
}

}  // namespace ballast
