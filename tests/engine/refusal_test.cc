#include "engine/refusal.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

TEST(Refusal, GoesThroughAStatus) {
  for (const Refusal refusal : {Refusal::kNeverFits, Refusal::kQueueFull, Refusal::kQueueTimeout, Refusal::kDeadline,
                                Refusal::kPinnedFull, Refusal::kSlowClient}) {
    const absl::Status status = Refused(refusal, "why", absl::Milliseconds(1500));
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(RefusalOf(status), refusal);
    EXPECT_EQ(status.message(), "why");
    EXPECT_EQ(RetryAfter(status), absl::Milliseconds(1500));
    EXPECT_FALSE(RefusalName(refusal).empty());
  }
  EXPECT_EQ(Refused(Refusal::kNeverFits, "").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refused(Refusal::kDeadline, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Refused(Refusal::kSlowClient, "").code(), absl::StatusCode::kAborted);
}

TEST(Refusal, OtherStatusesAreNone) {
  EXPECT_EQ(RefusalOf(absl::OkStatus()), Refusal::kNone);
  EXPECT_EQ(RefusalOf(absl::ResourceExhaustedError("full")), Refusal::kNone);
  EXPECT_EQ(RetryAfter(absl::UnavailableError("")), absl::ZeroDuration());
}

}  // namespace
}  // namespace lukv
