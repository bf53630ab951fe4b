#include "engine/moe/cost_parameters.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::HasSubstr;

TEST(CostParameters, TimeAndLoadAreInverse) {
  for (const int32_t speed : {kMinSpeed, 300, 512, 1023, 1024, 1025, kMaxSpeed}) {
    for (int64_t load = 0; load < 3000; load += 7) {
      const int64_t time = TimeOfLoad(load, speed);
      EXPECT_GE(LoadInTime(time, speed), load);
      if (time > 0) {
        EXPECT_LT(LoadInTime(time - 1, speed), load);
      }
    }
  }
}

TEST(CostParameters, TheLargestLoadOnTheSlowestRankIsNoTrouble) {
  const int64_t time = TimeOfLoad(kMaxLoad, kMinSpeed);
  EXPECT_EQ(LoadInTime(time, kMinSpeed), kMaxLoad);
  EXPECT_EQ(LoadInTime(time, kMaxSpeed), 2 * kMaxLoad);
}

TEST(CostParameters, ValidateNamesTheFieldTheValueAndTheRange) {
  CostParameters costs;
  costs.speed = {1024, 1024};
  EXPECT_TRUE(Validate(costs, 2).ok());
  EXPECT_THAT(std::string(Validate(costs, 3).message()),
              HasSubstr("speed has 2 ranks, expected 3"));
  costs.speed[1] = 3;
  EXPECT_THAT(std::string(Validate(costs, 2).message()),
              HasSubstr("speed is 3, expected 16 to 16384"));
  costs.speed.clear();
  costs.tile_rows = 0;
  EXPECT_THAT(std::string(Validate(costs, 2).message()), HasSubstr("tile_rows is 0, expected 1"));
}

}  // namespace
}  // namespace ballast
