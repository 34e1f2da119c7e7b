// Seeds of the simulation, and bugs that it has to find.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "tools/simulate/modelled_backend.h"
#include "tools/simulate/simulation.h"
#include "tools/simulate/workload.h"

namespace lukv {
namespace {

constexpr int32_t kRequests = 60;

// LUKV_SIMULATION_SEEDS, or few: sanitizers make the simulation slow.
int32_t Seeds() {
  const char* const variable = std::getenv("LUKV_SIMULATION_SEEDS");
  int32_t seeds = 40;
  if (variable != nullptr && !absl::SimpleAtoi(variable, &seeds)) ADD_FAILURE() << variable;
  return seeds;
}

TEST(Seeds, KeepEveryPromise) {
  SimulationCounts total;
  for (int32_t seed = 1; seed <= Seeds(); ++seed) {
    const SimulationResult result = Simulate(MakeScenario(seed, kRequests), {});
    EXPECT_EQ(result.failure, "");
    total.Add(result.counts);
  }
  // What the seeds are for has happened.
  for (const char* status : {"OK", "CANCELLED", "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "never_fits",
                             "queue_full", "queue_timeout", "deadline", "pinned_full", "slow_client"}) {
    EXPECT_GT(total.ended[status], 0) << status;
  }
  EXPECT_GT(total.preemptions, 0);
  EXPECT_GT(total.context_hits, 0);
  EXPECT_GT(total.continued, 0);
  EXPECT_GT(total.faults, 0);
  EXPECT_GT(total.restarts, 0);
  EXPECT_GT(total.compared_tokens, total.tokens / 2);
}

TEST(Simulation, ASeedRunsTheSameWayEachTime) {
  for (int32_t seed = 1; seed <= 20; ++seed) {
    const SimulationResult first = Simulate(MakeScenario(seed, kRequests), {});
    const SimulationResult again = Simulate(MakeScenario(seed, kRequests), {});
    EXPECT_EQ(first.trace, again.trace) << seed;
    EXPECT_NE(first.trace, Simulate(MakeScenario(seed + 1000, kRequests), {}).trace) << seed;
  }
}

TEST(Simulation, ComparingChangesNothing) {
  for (int32_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(Simulate(MakeScenario(seed, kRequests), {.compared = 0}).trace,
              Simulate(MakeScenario(seed, kRequests), {.compared = 1}).trace)
        << seed;
  }
}

// A device with a bug, such as an engine that gave wrong arguments would make of it.
class BuggyBackend : public ModelledBackend {
 public:
  using ModelledBackend::ModelledBackend;
};

class NoCopyPages final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoCopyPages(const CopyPagesArgs&) override { return absl::OkStatus(); }
};

class LosesAnAppend final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoAppend(const AppendArgs& args) override {
    return ++appends_ % 50 == 0 ? absl::OkStatus() : BuggyBackend::DoAppend(args);
  }
  int appends_ = 0;
};

class MixesUpSlots final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoPagedAttention(const PagedAttentionArgs& args) override {
    PagedAttentionArgs wrong = args;
    std::vector<int32_t> slots(args.sequences.slots, args.sequences.slots + args.sequences.n_sequences);
    if (++calls_ % 50 == 0) std::rotate(slots.begin(), slots.begin() + 1, slots.end());
    wrong.sequences.slots = slots.data();
    return BuggyBackend::DoPagedAttention(wrong);
  }
  int calls_ = 0;
};

class LosesACompaction final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoCompact(const CompactArgs& args) override {
    return ++compactions_ % 20 == 0 ? absl::OkStatus() : BuggyBackend::DoCompact(args);
  }
  int compactions_ = 0;
};

class WrongPositions final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoAppend(const AppendArgs& args) override {
    std::vector<Position> positions(args.qkv.positions, args.qkv.positions + args.qkv.qkv.rows);
    if (++appends_ % 50 == 0) positions.back() = Position{Value(positions.back()) + 1};
    AppendArgs wrong = args;
    wrong.qkv.positions = positions.data();
    return BuggyBackend::DoAppend(wrong);
  }
  int appends_ = 0;
};

class OtherDraws final : public BuggyBackend {
  using BuggyBackend::BuggyBackend;
  absl::Status DoSample(const SampleArgs& args) override {
    std::vector<SampleRow> rows(args.rows, args.rows + args.n_rows);
    if (++calls_ % 50 == 0) rows.back().draw ^= 1;
    SampleArgs wrong = args;
    wrong.rows = rows.data();
    return BuggyBackend::DoSample(wrong);
  }
  int calls_ = 0;
};

template <typename Buggy>
void ExpectFound() {
  int found = 0;
  for (int32_t seed = 1; seed <= 30; ++seed) {
    Scenario scenario = MakeScenario(seed, kRequests);
    scenario.server.make_backend = [](const ModelledTimes& times, ModelledFaults faults, VirtualClock& clock) {
      return std::make_unique<Buggy>(times, std::move(faults), clock);
    };
    const std::string failure = Simulate(scenario, {}).failure;
    if (failure.find("alone it is") != std::string::npos) ++found;
  }
  EXPECT_GT(found, 0);
}

TEST(PlantedBugs, PagesThatAreNotCopied) { ExpectFound<NoCopyPages>(); }
TEST(PlantedBugs, AnEntryThatIsLost) { ExpectFound<LosesAnAppend>(); }
TEST(PlantedBugs, AnotherSequencesPages) { ExpectFound<MixesUpSlots>(); }
TEST(PlantedBugs, AContextThatIsLost) { ExpectFound<LosesACompaction>(); }
TEST(PlantedBugs, AWrongPosition) { ExpectFound<WrongPositions>(); }
TEST(PlantedBugs, AnotherDraw) { ExpectFound<OtherDraws>(); }

TEST(PlantedBugs, NoneIsFoundWhereNoneIs) {
  // As ExpectFound, with a device that is as it should be.
  for (int32_t seed = 1; seed <= 30; ++seed) {
    Scenario scenario = MakeScenario(seed, kRequests);
    scenario.server.make_backend = [](const ModelledTimes& times, ModelledFaults faults, VirtualClock& clock) {
      return std::make_unique<BuggyBackend>(times, std::move(faults), clock);
    };
    EXPECT_EQ(Simulate(scenario, {}).failure, "");
  }
}

}  // namespace
}  // namespace lukv
