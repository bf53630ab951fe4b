// Reads plans, results and load orders from any bytes: no input may crash or take memory that the
// bytes do not stand for, and what is read is written again as the same bytes.
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/status.h"
#include "engine/step_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  constexpr int kRanks = 2;
  std::string again;
  switch (data[0] % 3) {
    case 0: {
      ballast::StepPlan plan;
      if (!ballast::ParsePlan(bytes, 1, kRanks, plan).ok()) return 0;
      CHECK(plan.ranks[1].positions.size() == plan.ranks[1].tokens.size());
      ballast::AppendPlan(plan, 1, again);
      break;
    }
    case 1: {
      ballast::RankResult result;
      if (!ballast::ParseResult(bytes, result).ok()) return 0;
      ballast::AppendResult(result, again);
      break;
    }
    default: {
      ballast::LoadOrder order;
      if (!ballast::ParseLoadOrder(bytes, order).ok()) return 0;
      ballast::AppendLoadOrder(order, again);
    }
  }
  CHECK(again == bytes);
  return 0;
}
