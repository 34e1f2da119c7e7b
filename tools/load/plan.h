// Which requests are sent: everything about them that is drawn.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "tools/eval/random.h"
#include "tools/load/options.h"

namespace lukv {

// How its client behaves. One thing at a time, so that an ending can be told from the others.
enum class Manner : uint8_t { kSteady, kCancels, kDeadline, kSlow };

struct PlannedRequest {
  int64_t index = 0;             // -1: the intruder.
  std::vector<int32_t> context;  // Empty: none.
  std::vector<int32_t> prompt;   // The question if there is a context.
  int32_t output = 0;            // Tokens to generate.
  int32_t priority = 0;
  Manner manner = Manner::kSteady;
  int32_t cancel_after = 0;  // kCancels: once it has so many tokens, in [0, output).
  absl::Duration deadline;   // kDeadline
};

class RequestPlanner {
 public:
  // `vocabulary`: ids are drawn from [0, vocabulary). `max_context`: tokens that prompt and output may have together;
  // what is drawn beyond is cut, the output first.
  RequestPlanner(const LoadOptions& options, int32_t vocabulary, int32_t max_context);

  // Depends on the seed and the index alone.
  PlannedRequest Request(int64_t index) const;
  PlannedRequest Intruder() const;
  // Seconds from one arrival to the next of an open loop; in the order of the arrivals.
  double NextGap();

 private:
  std::vector<int32_t> Ids(Random& random, int32_t n) const;

  const LoadOptions options_;
  const int32_t vocabulary_;
  const int32_t max_context_;
  std::vector<std::vector<int32_t>> contexts_;
  Random arrivals_;
};

}  // namespace lukv
