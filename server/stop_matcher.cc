#include "server/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace lukv {
namespace {

// Length of the longest proper prefix of `stop` that `text` ends with.
size_t OpenPrefix(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops) : stops_(stops) {
  for (const std::string& stop : stops) LUKV_CHECK(!stop.empty());
}

StopMatcher::Result StopMatcher::Push(std::string_view text) {
  if (stops_.empty()) return {.text = std::string(text), .matched = -1};
  held_.append(text);
  size_t begin = 0;
  size_t end = std::string::npos;
  int32_t matched = -1;
  for (size_t i = 0; i < stops_.size(); ++i) {
    const size_t at = held_.find(stops_[i]);
    if (at == std::string::npos) continue;
    const size_t stop_end = at + stops_[i].size();
    if (stop_end < end || (stop_end == end && at < begin)) {
      begin = at;
      end = stop_end;
      matched = static_cast<int32_t>(i);
    }
  }
  if (matched >= 0) {
    Result result{.text = held_.substr(0, begin), .matched = matched};
    held_.clear();
    return result;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, OpenPrefix(held_, stop));
  Result result{.text = held_.substr(0, held_.size() - keep), .matched = -1};
  held_.erase(0, held_.size() - keep);
  return result;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace lukv
