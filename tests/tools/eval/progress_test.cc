#include "tools/eval/progress.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

TEST(EvalProgressLine, SaysHowFarAndHowLong) {
  EXPECT_EQ(EvalProgressLine(0, 60, "vt at 3000", absl::Seconds(5), 0), "0 of 60 samples: vt at 3000");
  EXPECT_EQ(EvalProgressLine(12, 60, "vt at 3000", absl::Seconds(30), 20),
            "[####----------------] 12 of 60 samples, 2m00s left: vt at 3000");
  EXPECT_EQ(EvalProgressLine(59, 60, "", absl::Seconds(59), 0), "59 of 60 samples, 1s left");
  EXPECT_EQ(EvalProgressLine(60, 60, "", absl::Seconds(60), 4), "[####] 60 of 60 samples");
}

}  // namespace
}  // namespace lukv
