#include "tools/load/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {

RequestPlanner::RequestPlanner(const LoadOptions& options, int32_t vocabulary, int32_t max_context)
    : options_(options), vocabulary_(vocabulary), max_context_(max_context), arrivals_(options.seed, "arrivals") {
  LUKV_CHECK(vocabulary > 0 && max_context > 1);
  for (int32_t i = 0; i < options.shared_contexts; ++i) {
    Random random(options.seed, absl::StrCat("context ", i));
    const int32_t room = std::max(1, max_context - options.question_tokens - 1);
    contexts_.push_back(Ids(random, std::min(options.prompt.Draw(random), room)));
  }
}

std::vector<int32_t> RequestPlanner::Ids(Random& random, int32_t n) const {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.Below(static_cast<size_t>(vocabulary_)));
  return ids;
}

PlannedRequest RequestPlanner::Request(int64_t index) const {
  Random random(options_.seed, absl::StrCat("request ", index));
  PlannedRequest request{.index = index};
  const double shared = Unit(random);
  if (!contexts_.empty() && shared < options_.shared_share) {
    request.context = contexts_[random.Below(contexts_.size())];
    const auto room = max_context_ - static_cast<int32_t>(request.context.size()) - 1;
    request.prompt = Ids(random, std::clamp(options_.question_tokens, 1, std::max(1, room)));
  } else {
    request.prompt = Ids(random, std::min(options_.prompt.Draw(random), max_context_ - 1));
  }
  const auto length = static_cast<int32_t>(request.context.size() + request.prompt.size());
  request.output = std::clamp(options_.output.Draw(random), 1, std::max(1, max_context_ - length));

  double weights = 0;
  for (const auto& [priority, weight] : options_.priorities) weights += weight;
  double at = Unit(random) * weights;
  for (const auto& [priority, weight] : options_.priorities) {
    request.priority = priority;
    if (at < weight) break;
    at -= weight;
  }

  const double manner = Unit(random);
  if (manner < options_.cancel_share) {
    request.manner = Manner::kCancels;
    request.cancel_after = static_cast<int32_t>(random.Below(static_cast<size_t>(request.output)));
  } else if (manner < options_.cancel_share + options_.deadline_share) {
    request.manner = Manner::kDeadline;
    request.deadline = options_.deadline;
  } else if (manner < options_.cancel_share + options_.deadline_share + options_.slow_readers_share) {
    request.manner = Manner::kSlow;
  }
  return request;
}

PlannedRequest RequestPlanner::Intruder() const {
  Random random(options_.seed, "intruder");
  return {.index = -1, .prompt = Ids(random, std::min(options_.intruder_tokens, max_context_ - 1)), .output = 1};
}

double RequestPlanner::NextGap() { return Exponential(arrivals_, 1 / options_.rate); }

}  // namespace lukv
