// One seed: a scenario run to its end on a simulated server, with every promise of the engine checked on the way.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "tools/simulate/workload.h"

namespace lukv {

struct SimulationOptions {
  double compared = 1;  // Part of the requests whose tokens are compared with what they yield alone.
};

// What happened, summed up over runs.
struct SimulationCounts {
  int64_t requests = 0;
  std::map<std::string, int64_t> ended;  // By status, or by kind of refusal.
  int64_t tokens = 0;
  int64_t steps = 0;
  int64_t preemptions = 0;
  int64_t context_hits = 0;  // Requests that found tokens in the cache.
  int64_t continued = 0;     // Of them, turns of conversations.
  int64_t faults = 0;
  int64_t restarts = 0;
  int64_t compared = 0;  // Requests, and
  int64_t compared_tokens = 0;
  int64_t checks = 0;   // Of invariants.
  absl::Duration time;  // Virtual.

  void Add(const SimulationCounts& other);
};

struct SimulationResult {
  uint64_t seed = 0;
  std::string failure;  // "": all is well. Otherwise what is wrong, where and when.
  uint64_t trace = 0;   // Hash of everything that happened.
  SimulationCounts counts;
};

SimulationResult Simulate(const Scenario& scenario, const SimulationOptions& options);

// The checks, for people.
std::string SimulationInvariants();

}  // namespace lukv
