#include "engine/rank_parts.h"

namespace ballast {

RanksParts PartsOf(const PreparedModel& model, const Checkpoint& checkpoint) {
  RanksParts parts;
  parts.checkpoint = &checkpoint;
  parts.device = model.device;
  parts.options.ranks = model.info.ranks;
  parts.options.threads = model.threads;
  parts.options.compute = model.sizes.compute;
  parts.options.kv_blocks = model.sizes.kv_blocks;
  parts.options.sizes = model.sizes.step;
  parts.placement = model.placement;
  return parts;
}

}  // namespace ballast
