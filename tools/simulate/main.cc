// lukv-simulate: the engine on a virtual clock, seed by seed.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/simulate/simulation.h"

namespace lukv {
namespace {

// A failed check of the engine's own ends the process; the seed must be known then, too.
char crash_note[64];
void OnAbort(int) {
  const ssize_t written = write(STDERR_FILENO, crash_note, std::char_traits<char>::length(crash_note));
  (void)written;
}

struct Command {
  uint64_t seed = 1;
  int64_t seeds = 1;
  int32_t requests = 60;
  double compared = 1;
};

void Print(const SimulationCounts& counts, double seconds) {
  std::printf("requests %d, tokens %d, steps %d, virtual time %s\n", static_cast<int>(counts.requests),
              static_cast<int>(counts.tokens), static_cast<int>(counts.steps),
              absl::FormatDuration(absl::Trunc(counts.time, absl::Seconds(1))).c_str());
  std::printf("preemptions %d, context hits %d (of them turns of conversations %d), faults injected %d, restarts %d\n",
              static_cast<int>(counts.preemptions), static_cast<int>(counts.context_hits),
              static_cast<int>(counts.continued), static_cast<int>(counts.faults), static_cast<int>(counts.restarts));
  std::printf("ended with:\n");
  for (const auto& [status, n] : counts.ended) std::printf("  %-20s %9d\n", status.c_str(), static_cast<int>(n));
  std::printf("compared with themselves alone: %d requests, %d tokens\n", static_cast<int>(counts.compared),
              static_cast<int>(counts.compared_tokens));
  std::printf("%s", SimulationInvariants().c_str());
  std::printf("%.1f s\n", seconds);
}

int Run(const Command& command) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::signal(SIGABRT, OnAbort);
  const auto start = std::chrono::steady_clock::now();
  SimulationCounts total;
  int64_t failures = 0;
  for (int64_t i = 0; i < command.seeds; ++i) {
    const uint64_t seed = command.seed + static_cast<uint64_t>(i);
    std::snprintf(crash_note, sizeof(crash_note), "in seed %llu\n", static_cast<unsigned long long>(seed));
    const SimulationResult result = Simulate(MakeScenario(seed, command.requests), {.compared = command.compared});
    total.Add(result.counts);
    if (command.seeds == 1) std::printf("trace %016llx\n", static_cast<unsigned long long>(result.trace));
    if (result.failure.empty()) continue;
    ++failures;
    std::printf("%s\n  lukv-simulate --seed %llu --requests %d\n", result.failure.c_str(),
                static_cast<unsigned long long>(seed), command.requests);
  }
  Print(total, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  if (failures > 0) std::printf("%d of %d seeds failed\n", static_cast<int>(failures), static_cast<int>(command.seeds));
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  lukv::Command command;
  CLI::App app(
      "Runs the engine with seeded requests on a virtual clock and a modelled device, and checks what it "
      "promises.");
  app.add_option("--seed", command.seed, "The first seed")->capture_default_str();
  app.add_option("--seeds", command.seeds, "How many, one after the other")->check(CLI::PositiveNumber);
  app.add_option("--requests", command.requests, "Requests of a seed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--compared", command.compared, "Part of the requests that are run alone as well, and compared")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return lukv::Run(command);
}
