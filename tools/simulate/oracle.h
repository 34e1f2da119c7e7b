// What a request yields alone: on a server of the same model with room for everything, one request at a time, on which
// nothing fails.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/simulate/simulated_server.h"
#include "tools/simulate/workload.h"

namespace lukv {

// [sample][token]
using SampleTokens = std::vector<std::vector<TokenId>>;

// A turn of a conversation that took place.
struct PastTurn {
  PlannedRequest planned;
  int32_t generated = 0;  // Tokens, and
  int32_t counted = 0;    // those that its client let count: fewer where it saw a stop string.
  bool ended_by_client = false;
};

class Oracle {
 public:
  // For requests of the scenario's server.
  explicit Oracle(const Scenario& scenario);

  // Nothing is left of an earlier request.
  SampleTokens Alone(const PlannedRequest& planned);
  // Of `last`, which goes on from the turns before it. REQUIRES: the scenario's server keeps contexts.
  SampleTokens Conversation(const std::vector<PastTurn>& turns, const PlannedRequest& last);

 private:
  static SampleTokens Run(SimulatedServer& server, Ticket ticket, const PastTurn& turn,
                          const std::string& conversation);

  VirtualClock clock_;
  std::unique_ptr<SimulatedServer> server_;  // That keeps nothing.
  VirtualClock keeping_clock_;
  std::unique_ptr<SimulatedServer> keeping_;  // For conversations.
  Ticket last_ticket_ = 0;
};

}  // namespace lukv
