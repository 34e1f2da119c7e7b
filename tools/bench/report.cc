#include "tools/bench/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/evict/policy.h"

namespace lukv {
namespace {

using Json = nlohmann::ordered_json;

struct Summary {
  double median = 0, min = 0, max = 0;
};

Summary Summarise(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {.median = (values[(n - 1) / 2] + values[n / 2]) / 2, .min = values.front(), .max = values.back()};
}

Json ToJson(const Summary& s) { return {{"median", s.median}, {"min", s.min}, {"max", s.max}}; }

Json ToJson(const OpSum& sum) {
  return {{"op", sum.op}, {"calls", sum.calls}, {"bytes", sum.cost.bytes}, {"flops", sum.cost.flops}};
}

// 0 where there is nothing to divide by.
double Rate(int64_t amount, double seconds) { return seconds > 0 ? static_cast<double>(amount) / seconds : 0; }

OpSum Total(const PhaseOps& phase) {
  OpSum total{.op = "sum"};
  for (const OpSum& sum : phase.ops) {
    total.calls += sum.calls;
    total.seconds += sum.seconds;
    total.cost += sum.cost;
  }
  return total;
}

// ---------------------------------------------------------------------------------------------------------------------
// A run

Json RunJson(const BenchOptions& options, const BenchResult& result) {
  Json out{{"model", options.model.empty() ? options.dummy_weights : options.model},
           {"prompt", options.prompt},
           {"gen", options.gen},
           {"batch", options.batch},
           {"prefill_chunk", options.prefill_chunk},
           {"device", result.device},
           {"load_s", result.load_s},
           {"prefill_tokens_per_s", ToJson(Summarise(result.speed.prefill_tokens_per_s))},
           {"decode_tokens_per_s", ToJson(Summarise(result.speed.decode_tokens_per_s))},
           {"policy", options.policy},
           {"eviction_share", ToJson(Summarise(result.speed.eviction_share))},
           {"kv_bytes_full", result.speed.kv_bytes_full},
           {"kv_bytes_resident", result.speed.kv_bytes_resident}};
  if (!result.peaks.has_value()) return out;
  out["copy_bytes_per_s"] = result.peaks->bytes_per_s;
  out["product_flops_per_s"] = result.peaks->flops_per_s;
  out["int8_ops_per_s"] = result.peaks->int8_ops_per_s;
  out["fork_join_s"] = result.peaks->fork_join_s;
  for (const PhaseOps& phase : result.ops) {
    Json& ops = out["ops"][phase.phase] = Json::array();
    for (const OpSum& sum : phase.ops) {
      Json op = ToJson(sum);
      op["seconds"] = sum.seconds;
      op["bytes_per_s"] = Rate(sum.cost.bytes, sum.seconds);
      op["flops_per_s"] = Rate(sum.cost.flops, sum.seconds);
      ops.push_back(std::move(op));
    }
  }
  return out;
}

// What an op's products are judged by.
double PeakFlops(const OpSum& sum, const Peaks& peaks) {
  return peaks.int8_ops_per_s > 0 && absl::StartsWith(sum.op, "Linear") ? peaks.int8_ops_per_s : peaks.flops_per_s;
}

void AppendOp(const OpSum& sum, double phase_seconds, const Peaks& peaks, std::string& out) {
  const double bytes = Rate(sum.cost.bytes, sum.seconds);
  const double flops = Rate(sum.cost.flops, sum.seconds);
  absl::StrAppendFormat(&out, "%-28s %6d %11.3f %5.1f %10.4g %10.4g %9.2f %5.1f %10.2f %5.1f\n", sum.op, sum.calls,
                        1e3 * sum.seconds, phase_seconds > 0 ? 100 * sum.seconds / phase_seconds : 0,
                        1e-9 * static_cast<double>(sum.cost.bytes), 1e-9 * static_cast<double>(sum.cost.flops),
                        1e-9 * bytes, 100 * bytes / peaks.bytes_per_s, 1e-9 * flops,
                        100 * flops / PeakFlops(sum, peaks));
}

std::string OpsText(const BenchResult& result) {
  const Peaks& peaks = *result.peaks;
  std::string out = absl::StrFormat("peaks    copy %.1f GB/s, matrix product %.1f GFLOP/s\n", 1e-9 * peaks.bytes_per_s,
                                    1e-9 * peaks.flops_per_s);
  if (peaks.fork_join_s > 0) {
    absl::StrAppendFormat(&out,
                          "         int8 product %.1f GOP/s (linear layers are judged by it), fork and join %.1f us\n",
                          1e-9 * peaks.int8_ops_per_s, 1e6 * peaks.fork_join_s);
  }
  for (const PhaseOps& phase : result.ops) {
    absl::StrAppendFormat(&out, "\n%-28s %6s %11s %5s %10s %10s %9s %5s %10s %5s\n", phase.phase, "calls", "ms", "%",
                          "GB", "GFLOP", "GB/s", "%", "GFLOP/s", "%");
    const OpSum total = Total(phase);
    for (const OpSum& sum : phase.ops) AppendOp(sum, total.seconds, peaks, out);
    AppendOp(total, total.seconds, peaks, out);
  }
  return out;
}

std::string RunText(const BenchOptions& options, const BenchResult& result) {
  const Summary prefill = Summarise(result.speed.prefill_tokens_per_s);
  const Summary decode = Summarise(result.speed.decode_tokens_per_s);
  std::string out = absl::StrFormat("device   %s\nload     %.2f s\n", result.device, result.load_s);
  absl::StrAppendFormat(&out, "prefill  %d tokens: %.1f tokens/s (min %.1f, max %.1f)\n", options.prompt,
                        prefill.median, prefill.min, prefill.max);
  if (options.gen > 0) {
    absl::StrAppendFormat(&out, "decode   %d steps of %d: %.1f tokens/s (min %.1f, max %.1f)\n", options.gen,
                          options.batch, decode.median, decode.min, decode.max);
  }
  if (options.policy != "full") {
    absl::StrAppendFormat(&out, "evict    %s: %.2f %% of the prefill\n", options.policy,
                          100 * Summarise(result.speed.eviction_share).median);
  }
  absl::StrAppendFormat(&out, "KV       %.2f MiB resident, %.2f MiB for a full cache\n",
                        static_cast<double>(result.speed.kv_bytes_resident) / (1 << 20),
                        static_cast<double>(result.speed.kv_bytes_full) / (1 << 20));
  if (result.peaks.has_value()) out += OpsText(result);
  return out;
}

// ---------------------------------------------------------------------------------------------------------------------
// A roofline

Peaks RooflinePeaks(const BenchOptions& options) {
  return {.bytes_per_s = 1e12 * options.peak_bandwidth, .flops_per_s = 1e12 * options.peak_flops};
}

Json RooflineJson(const BenchOptions& options, const std::vector<RooflineCase>& cases) {
  const Peaks peaks = RooflinePeaks(options);
  Json out{{"model", options.roofline}, {"bytes_per_s", peaks.bytes_per_s}, {"flops_per_s", peaks.flops_per_s}};
  for (const RooflineCase& c : cases) {
    Json entry{{"phase", c.ops.phase},         {"batch", c.batch},    {"context", c.context}, {"kept", c.kept},
               {"resident_bytes", c.resident}, {"floor_s", c.floor_s}};
    for (const OpSum& sum : c.ops.ops) {
      Json op = ToJson(sum);
      op["floor_s"] = FloorSeconds(sum.cost, peaks);
      entry["ops"].push_back(std::move(op));
    }
    out["cases"].push_back(std::move(entry));
  }
  return out;
}

std::string RooflineText(const BenchOptions& options, const std::vector<RooflineCase>& cases) {
  const Peaks peaks = RooflinePeaks(options);
  std::string sums = absl::StrFormat(
      "%s on a device of %g TB/s and %g TFLOP/s; prefill units of %d tokens\n\n%-28s %8s %5s %6s %12s %10s\n",
      options.roofline, options.peak_bandwidth, options.peak_flops, options.prefill_chunk, "floors", "context", "kept",
      "batch", "resident GB", "ms");
  std::string ops;
  for (const RooflineCase& c : cases) {
    absl::StrAppendFormat(&sums, "%-28s %8d %4.0f%% %6d %12.1f %10.2f\n", c.ops.phase, c.context, 100 * c.kept, c.batch,
                          1e-9 * static_cast<double>(c.resident), 1e3 * c.floor_s);
    absl::StrAppendFormat(&ops, "\n%s, context %d, %.0f %% kept, batch %d\n%-28s %8s %12s %12s %10s %10s %10s\n",
                          c.ops.phase, c.context, 100 * c.kept, c.batch, "op", "calls", "GB", "GFLOP", "ms bytes",
                          "ms flops", "ms");
    for (const OpSum& sum : c.ops.ops) {
      const double bytes = static_cast<double>(sum.cost.bytes), flops = static_cast<double>(sum.cost.flops);
      absl::StrAppendFormat(&ops, "%-28s %8d %12.4f %12.3f %10.3f %10.3f %10.3f\n", sum.op, sum.calls, 1e-9 * bytes,
                            1e-9 * flops, 1e3 * bytes / peaks.bytes_per_s, 1e3 * flops / peaks.flops_per_s,
                            1e3 * FloorSeconds(sum.cost, peaks));
    }
  }
  return sums + ops;
}

}  // namespace

std::string Report(const BenchOptions& options, const BenchResult& result) {
  return options.json ? RunJson(options, result).dump() + "\n" : RunText(options, result);
}

std::string Report(const BenchOptions& options, const std::vector<RooflineCase>& cases) {
  return options.json ? RooflineJson(options, cases).dump() + "\n" : RooflineText(options, cases);
}

std::string TraceJson(const std::vector<PhaseOps>& phases) {
  Json events = Json::array();
  for (size_t phase = 0; phase < phases.size(); ++phase) {
    events.push_back(
        {{"ph", "M"}, {"name", "thread_name"}, {"pid", 0}, {"tid", phase}, {"args", {{"name", phases[phase].phase}}}});
    for (const OpEvent& event : phases[phase].events) {
      events.push_back({{"ph", "X"},
                        {"name", event.op},
                        {"pid", 0},
                        {"tid", phase},
                        {"ts", 1e6 * event.start},
                        {"dur", 1e6 * event.seconds}});
    }
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

}  // namespace lukv
