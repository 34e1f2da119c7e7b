#include "engine/live_request.h"

#include <algorithm>

#include "base/check.h"

namespace lukv {

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
