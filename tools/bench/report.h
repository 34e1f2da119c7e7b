// What lukv-bench prints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/op_run.h"
#include "tools/bench/options.h"
#include "tools/bench/peaks.h"
#include "tools/bench/roofline.h"
#include "tools/bench/speed.h"

namespace lukv {

struct BenchResult {
  std::string device;
  double load_s = 0;
  Speed speed;
  std::optional<Peaks> peaks;  // With --ops
  std::vector<PhaseOps> ops;
};

// As text or, with --json, as one JSON object.
std::string Report(const BenchOptions& options, const BenchResult& result);
std::string Report(const BenchOptions& options, const std::vector<RooflineCase>& cases);

// The calls of all phases, in the format of Chrome's trace viewer (Trace Event Format: complete events, microseconds);
// each phase is a thread of its own.
std::string TraceJson(const std::vector<PhaseOps>& phases);

}  // namespace lukv
