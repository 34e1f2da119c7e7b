#include "engine/live_request.h"

#include <algorithm>

#include "base/check.h"

namespace lukv {

void LiveRequest::UseOwnContext() {
  plan = request.plan;
  context_tokens = request.shared_context.has_value() ? request.shared_context->n_tokens
                   : plan != nullptr                  ? plan->n_tokens()
                                                      : prompt_tokens();
  usage.context_tokens = plan != nullptr ? plan->n_tokens() : 0;
}

int32_t LiveRequest::unfinished() const {
  return static_cast<int32_t>(
      std::count_if(samples.begin(), samples.end(), [](const LiveSample& sample) { return !sample.finished; }));
}

int32_t LiveRequest::longest_output() const {
  size_t longest = 0;
  for (const LiveSample& sample : samples) {
    if (!sample.finished) longest = std::max(longest, sample.output.size());
  }
  return static_cast<int32_t>(longest);
}

LiveSample& LiveRequest::first_unfinished() {
  const auto found =
      std::find_if(samples.begin(), samples.end(), [](const LiveSample& sample) { return !sample.finished; });
  LUKV_CHECK(found != samples.end());
  return *found;
}

}  // namespace lukv
