// What clients ask of a simulated server, all of it out of a seed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/evict/policy.h"
#include "engine/request.h"
#include "tools/simulate/random.h"
#include "tools/simulate/simulated_server.h"

namespace lukv {

// A request, and how its client behaves.
struct PlannedRequest {
  ValidRequest request;        // Without its plan and deadline, which depend on the server and the time.
  Policy policy;               // Of the first `context_tokens`, if that is not full.
  int32_t context_tokens = 0;  // 0: no context.
  absl::Duration deadline = absl::InfiniteDuration();  // After its arrival.
  absl::Duration cancel = absl::InfiniteDuration();    // After its arrival.
  // The client takes what is there so long after it came.
  absl::Duration reading = absl::ZeroDuration();
  absl::Duration pinned;  // Of a request for a context alone: how long it stays.
  size_t outbox = 64;
  int32_t finish_after = 0;  // Tokens of sample 0 after which the client has seen a stop string; 0: never.
  int32_t turn = 0;          // Of a conversation.
};

// Everything about one simulated run but its requests.
struct Scenario {
  uint64_t seed = 0;
  ServerSettings server;
  int32_t requests = 0;
  absl::Duration between;  // Arrivals, on average.
  double burst = 0;        // Chance that an arrival is followed by others at once.
  double restart = 0;      // Chance per arrival that the server is made anew.
  double release = 0;      // Chance per arrival that a pinned context is released.
  double cancel = 0;       // Chances per request.
  double deadline = 0;
  double slow_reader = 0;
  double shared = 0;
  double conversation = 0;
  double evicted = 0;
  double many_samples = 0;
  double stopped = 0;
  bool storm = false;  // Deadlines of many requests are the same moment.
  int32_t longest_prompt = 0;
  int32_t longest_output = 0;
  int32_t tenants = 1;
};

Scenario MakeScenario(uint64_t seed, int32_t requests);

class Workload {
 public:
  explicit Workload(const Scenario& scenario);

  // Of the next request; decreases `left`. REQUIRES: left() > 0.
  PlannedRequest Next();
  int32_t left() const { return left_; }
  // Until the next arrival.
  absl::Duration NextPause();
  bool NextIsRestart() { return random_.Chance(scenario_.restart); }
  // A pinned context that is to be released, if one is.
  std::optional<ContextKey> NextRelease();
  // The next turn after `last`, whose text so far is `text`; nothing: the conversation is over. Counts as a request.
  std::optional<PlannedRequest> FollowUp(const PlannedRequest& last, const std::vector<TokenId>& text);
  absl::Duration ThinkingTime() { return absl::Milliseconds(random_.Between(0, 300)); }

 private:
  struct Context {
    std::string tenant;
    std::vector<TokenId> tokens;
    Policy policy;
  };
  std::vector<TokenId> Tokens(int32_t n);
  Policy AnyPolicy();
  void AddContext(PlannedRequest& planned);
  void AddBehaviour(PlannedRequest& planned);

  const Scenario scenario_;
  Random random_;
  int32_t left_;
  int32_t number_ = 0;
  std::vector<Context> contexts_;
};

}  // namespace lukv
