// lukv-simulate: the engine on a virtual clock, seed by seed.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "tools/simulate/simulation.h"

namespace lukv {
namespace {

// A failed check of the engine's own ends the process; the seed must be known then, too.
thread_local char crash_note[64];
void OnAbort(int) {
  const ssize_t written = write(STDERR_FILENO, crash_note, std::char_traits<char>::length(crash_note));
  (void)written;
}

struct Command {
  uint64_t seed = 1;
  int64_t seeds = 1;
  int32_t requests = 60;
  double compared = 1;
  int jobs = 1;
};

long long Number(int64_t value) { return value; }

void Print(const SimulationCounts& counts, double seconds) {
  std::printf("requests %lld, tokens %lld, steps %lld, virtual time %s\n", Number(counts.requests),
              Number(counts.tokens), Number(counts.steps),
              absl::FormatDuration(absl::Trunc(counts.time, absl::Seconds(1))).c_str());
  std::printf(
      "preemptions %lld, context hits %lld (of them turns of conversations %lld), faults injected %lld, restarts "
      "%lld\n",
      Number(counts.preemptions), Number(counts.context_hits), Number(counts.continued), Number(counts.faults),
      Number(counts.restarts));
  std::printf("ended with:\n");
  for (const auto& [status, n] : counts.ended) std::printf("  %-20s %9lld\n", status.c_str(), Number(n));
  std::printf("compared with themselves alone: %lld requests, %lld tokens\n", Number(counts.compared),
              Number(counts.compared_tokens));
  std::printf("%lld checks; %s", Number(counts.checks), SimulationInvariants().c_str());
  std::printf("%.1f s\n", seconds);
}

// What the threads have seen so far.
struct Total {
  Mutex mutex;
  int64_t seeds ABSL_GUARDED_BY(mutex) = 0;  // Begun.
  int64_t failures ABSL_GUARDED_BY(mutex) = 0;
  SimulationCounts counts ABSL_GUARDED_BY(mutex);
};

void Report(const Command& command, const SimulationResult& result, Total& total) {
  MutexLock lock(&total.mutex);
  total.counts.Add(result.counts);
  if (command.seeds == 1) std::printf("trace %016llx\n", static_cast<unsigned long long>(result.trace));
  if (result.failure.empty()) return;
  ++total.failures;
  std::printf("%s\n  lukv-simulate --seed %llu --requests %d\n", result.failure.c_str(),
              static_cast<unsigned long long>(result.seed), command.requests);
}

// Seeds one after the other, as long as there are any.
void RunSeeds(const Command& command, Total& total) {
  while (true) {
    uint64_t seed = command.seed;
    {
      MutexLock lock(&total.mutex);
      if (total.seeds == command.seeds) return;
      seed += static_cast<uint64_t>(total.seeds++);
    }
    std::snprintf(crash_note, sizeof(crash_note), "in seed %llu\n", static_cast<unsigned long long>(seed));
    Report(command, Simulate(MakeScenario(seed, command.requests), {.compared = command.compared}), total);
  }
}

int Run(const Command& command) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::signal(SIGABRT, OnAbort);
  const auto start = std::chrono::steady_clock::now();
  Total total;
  std::vector<std::thread> threads;
  for (int job = 0; job < command.jobs; ++job) threads.emplace_back([&] { RunSeeds(command, total); });
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(&total.mutex);
  Print(total.counts, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  std::printf("%lld of %lld seeds failed\n", Number(total.failures), Number(command.seeds));
  return total.failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
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
  app.add_option("--jobs", command.jobs, "Threads, which run seeds side by side")->check(CLI::PositiveNumber);
  app.add_option("--compared", command.compared, "Part of the requests that are run alone as well, and compared")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return lukv::Run(command);
}
