// The experts of a layer that all stand here, over the grouped products.
#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

MatView First(MatView view, int64_t rows) {
  view.rows = rows;
  return view;
}

// Makes a group of rows of each expert that was chosen.
void ListGroups(const int32_t* ids, int64_t choices, const ExpertTable& table, ExpertLists& lists) {
  lists.next.assign(static_cast<size_t>(table.count) + 1, 0);
  for (int64_t i = 0; i < choices; ++i) ++lists.next[static_cast<size_t>(ids[i]) + 1];
  lists.gate_up.clear();
  lists.down.clear();
  int64_t begin = 0;
  for (int32_t e = 0; e < table.count; ++e) {
    const MlpWeights& expert = table.experts[e];
    const int64_t rows = lists.next[static_cast<size_t>(e) + 1];
    lists.next[static_cast<size_t>(e)] = begin;
    if (rows == 0) continue;
    lists.gate_up.push_back({&expert.gate, &expert.up, begin, rows});
    lists.down.push_back({&expert.down, begin, rows, 0, 0});
    begin += rows;
  }
}

}  // namespace

void RunExperts(Stream handle, MatView x, const int32_t* ids, int32_t k, const ExpertTable& table,
                const ExpertRows& rows) {
  ExpertLists& lists = StreamOf(handle).experts;
  const int64_t choices = x.rows * k;
  ListGroups(ids, choices, table, lists);
  lists.from.resize(static_cast<size_t>(choices));
  for (int64_t i = 0; i < choices; ++i) {
    const int64_t row = lists.next[static_cast<size_t>(ids[i])]++;
    lists.from[static_cast<size_t>(row)] =
        At(static_cast<const void*>(x.data), x.type, i / k * x.stride);
    rows.answers[i] = static_cast<const float*>(rows.y.data) + row * rows.y.stride;
  }
  const auto groups = static_cast<int64_t>(lists.down.size());
  const MatView h = First(rows.h, choices);
  CopyRows(handle, lists.from.data(), First(rows.x, choices));
  GateUp(handle, First(rows.x, choices), lists.gate_up.data(), groups, h);
  Matmul(handle, h, lists.down.data(), groups, First(rows.y, choices), false);
}

}  // namespace ballast::cpu
