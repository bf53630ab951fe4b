// Placements that come into force one after another while tokens are generated.
#pragma once

#include <atomic>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "tests/engine/invariance.h"
#include "tests/engine/random_layers.h"

namespace ballast::test {

class MovingTest : public InvarianceTest {
 protected:
  // Asks at least `rounds` times, and until the placement's version is `version`, however the
  // threads take turns; the answers are always the same.
  static void ExpectSameWhileMoving(Engine& engine, const LayerShape& shape,
                                    ballast::Random& random, const std::vector<Request>& requests,
                                    const std::vector<Answer>& want, int rounds, uint64_t version) {
    std::atomic<bool> over{false};
    std::thread moving([&] {
      while (!over) {
        std::promise<absl::StatusOr<PlacementChange>> answer;
        PlacementRequest request;
        request.layers = RandomLayers(engine.info().config, shape, random);
        engine.ApplyPlacement(std::move(request), [&](absl::StatusOr<PlacementChange> change) {
          answer.set_value(std::move(change));
        });
        const absl::StatusOr<PlacementChange> change = answer.get_future().get();
        ASSERT_TRUE(change.ok()) << change.status();
      }
    });
    constexpr int kMostRounds = 1000;
    for (int round = 0;
         round < rounds || (engine.GetPlacement().version < version && round < kMostRounds);
         ++round) {
      auto again = requests;
      for (Request& request : again) request.bypass_prefix_cache = true;
      ExpectSame(want, AskAll(engine, again));
    }
    over = true;
    moving.join();
    EXPECT_GE(engine.GetPlacement().version, version);
  }
};

}  // namespace ballast::test
