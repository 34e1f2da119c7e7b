#include "tools/load/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace lukv {
namespace {

constexpr int32_t kVocabulary = 50;
constexpr int32_t kMaxContext = 400;
constexpr int kRequests = 4000;

LoadOptions Options() {
  LoadOptions options;
  options.prompt = *Lengths::Parse("uniform:10:100");
  options.output = *Lengths::Parse("uniform:1:20");
  return options;
}

RequestPlanner Planner(const LoadOptions& options) { return RequestPlanner(options, kVocabulary, kMaxContext); }

TEST(RequestPlanner, ARequestDependsOnSeedAndIndexAlone) {
  const PlannedRequest first = Planner(Options()).Request(17);
  const RequestPlanner other = Planner(Options());
  other.Request(3);
  EXPECT_EQ(other.Request(17).prompt, first.prompt);
  EXPECT_EQ(other.Request(17).output, first.output);
  EXPECT_NE(other.Request(18).prompt, first.prompt);
  LoadOptions reseeded = Options();
  reseeded.seed = 2;
  EXPECT_NE(Planner(reseeded).Request(17).prompt, first.prompt);
}

TEST(RequestPlanner, DrawsIdsFromTheWholeVocabulary) {
  std::set<int32_t> ids;
  const RequestPlanner planner = Planner(Options());
  for (int i = 0; i < 100; ++i) {
    const PlannedRequest request = planner.Request(i);
    EXPECT_THAT(request.prompt.size(), testing::AllOf(testing::Ge(10u), testing::Le(100u)));
    ids.insert(request.prompt.begin(), request.prompt.end());
  }
  EXPECT_EQ(ids.size(), static_cast<size_t>(kVocabulary));
  EXPECT_EQ(*ids.begin(), 0);
}

TEST(RequestPlanner, FitsWhatIsDrawnIntoTheContext) {
  LoadOptions options = Options();
  options.prompt = *Lengths::Parse("uniform:300:1000");
  options.output = *Lengths::Parse("uniform:1:1000");
  options.shared_contexts = 2;
  const RequestPlanner planner = Planner(options);
  for (int i = 0; i < 500; ++i) {
    const PlannedRequest request = planner.Request(i);
    EXPECT_GE(request.output, 1);
    EXPECT_LE(request.context.size() + request.prompt.size() + static_cast<size_t>(request.output),
              static_cast<size_t>(kMaxContext));
  }
}

TEST(RequestPlanner, SharesContexts) {
  LoadOptions options = Options();
  options.shared_contexts = 3;
  options.shared_share = 0.25;
  options.question_tokens = 9;
  const RequestPlanner planner = Planner(options);
  std::set<std::vector<int32_t>> contexts, questions;
  int shared = 0;
  for (int i = 0; i < kRequests; ++i) {
    const PlannedRequest request = planner.Request(i);
    if (request.context.empty()) continue;
    ++shared;
    contexts.insert(request.context);
    questions.insert(request.prompt);
    EXPECT_EQ(request.prompt.size(), 9u);
  }
  EXPECT_EQ(contexts.size(), 3u);
  EXPECT_EQ(questions.size(), static_cast<size_t>(shared));
  EXPECT_NEAR(shared, kRequests * 0.25, kRequests * 0.03);
}

TEST(RequestPlanner, SpreadsMannersAndPriorities) {
  LoadOptions options = Options();
  options.cancel_share = 0.1;
  options.deadline_share = 0.05;
  options.slow_readers_share = 0.2;
  options.deadline = absl::Seconds(3);
  options.priorities = {{-5, 1}, {7, 3}};
  const RequestPlanner planner = Planner(options);
  std::map<Manner, int> manners;
  std::map<int32_t, int> priorities;
  for (int i = 0; i < kRequests; ++i) {
    const PlannedRequest request = planner.Request(i);
    ++manners[request.manner];
    ++priorities[request.priority];
    if (request.manner == Manner::kCancels) {
      EXPECT_LT(request.cancel_after, request.output);
    }
    EXPECT_EQ(request.deadline, request.manner == Manner::kDeadline ? absl::Seconds(3) : absl::ZeroDuration());
  }
  EXPECT_NEAR(manners[Manner::kCancels], kRequests * 0.1, kRequests * 0.02);
  EXPECT_NEAR(manners[Manner::kDeadline], kRequests * 0.05, kRequests * 0.02);
  EXPECT_NEAR(manners[Manner::kSlow], kRequests * 0.2, kRequests * 0.03);
  EXPECT_NEAR(priorities[7], kRequests * 0.75, kRequests * 0.03);
  EXPECT_EQ(priorities[7] + priorities[-5], kRequests);
}

TEST(RequestPlanner, ArrivalsComeAtTheirRate) {
  LoadOptions options = Options();
  options.rate = 20;
  RequestPlanner planner = Planner(options);
  double time = 0;
  for (int i = 0; i < kRequests; ++i) time += planner.NextGap();
  EXPECT_NEAR(kRequests / time, 20, 1.5);
}

TEST(RequestPlanner, TheIntruderIsLongAndSaysOneWord) {
  LoadOptions options = Options();
  options.intruder_tokens = 300;
  const PlannedRequest intruder = Planner(options).Intruder();
  EXPECT_EQ(intruder.index, -1);
  EXPECT_EQ(intruder.prompt.size(), 300u);
  EXPECT_EQ(intruder.output, 1);
}

}  // namespace
}  // namespace lukv
