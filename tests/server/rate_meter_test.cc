#include "server/rate_meter.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

TEST(RateMeter, IsWhatCameBetweenReadings) {
  RateMeter meter;
  const absl::Time start = absl::FromUnixSeconds(1000);
  EXPECT_EQ(meter.Rate(start, 500), 0) << "of one reading nothing follows";
  EXPECT_EQ(meter.Rate(start + absl::Milliseconds(500), 600), 0) << "too short to say";
  EXPECT_EQ(meter.Rate(start + absl::Seconds(2), 700), 100);
  EXPECT_EQ(meter.Rate(start + absl::Milliseconds(2500), 100'000), 100) << "the last answer again";
  EXPECT_EQ(meter.Rate(start + absl::Seconds(12), 700), 0) << "nothing came";
}

}  // namespace
}  // namespace lukv
