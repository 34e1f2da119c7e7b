#include "tools/profile/progress.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

TEST(ProgressLine, TellsHowMuchIsDoneAndWhatIsLeft) {
  EXPECT_EQ(ProgressLine({.total = 60}, absl::ZeroDuration(), 0), "0 of 60 questions");
  EXPECT_EQ(ProgressLine({.total = 60, .done = 20}, absl::Seconds(50), 0), "20 of 60 questions, 1m40s left");
  EXPECT_EQ(ProgressLine({.total = 60, .done = 60}, absl::Seconds(50), 0), "60 of 60 questions");
  EXPECT_EQ(ProgressLine({.total = 4, .done = 1}, absl::Seconds(1), 8), "[##------] 1 of 4 questions, 3s left");
  EXPECT_EQ(ProgressLine({.total = 4, .done = 4}, absl::Seconds(1), 8), "[########] 4 of 4 questions");
}

TEST(ProgressLine, QuestionsOfAnEarlierRunAreNoMeasure) {
  EXPECT_EQ(ProgressLine({.total = 60, .done = 40, .found = 40}, absl::Seconds(1), 0), "40 of 60 questions");
  EXPECT_EQ(ProgressLine({.total = 60, .done = 41, .found = 40}, absl::Seconds(2), 0), "41 of 60 questions, 38s left");
}

}  // namespace
}  // namespace lukv
