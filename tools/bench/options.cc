#include "tools/bench/options.h"

#include <optional>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evict/policy.h"
#include "kernels/device.h"
#include "tools/bench/presets.h"

namespace lukv {
namespace {

constexpr char kAbout[] =
    "Speed of a model in this process: prefill of random ids, then decode steps after them.\n"
    "Prints the median of the repeats; one run before them does not count.\n"
    "--ops goes on with a table of the device's ops: time, bytes and flops of each in a prefill, in decode steps and "
    "in\n"
    "eviction, beside the fastest copy and matrix product that were measured on the device. Every op is timed alone,\n"
    "from its call until the device is done, so launches are included; what an empty wait takes is subtracted. Bytes\n"
    "are those that must move at least once.\n"
    "With --server ADDRESS it is a load generator instead: see lukv-bench --server ADDRESS --help.";

void AddRun(CLI::App& app, BenchOptions& options) {
  app.add_option("--model", options.model, "GGUF file or Hugging Face folder");
  app.add_option("--dummy-weights", options.dummy_weights,
                 "In place of a model: random weights of a model's shape; implies --ops")
      ->check(CLI::IsMember(PresetNames()));
  app.add_option("--device", options.device, "cpu, cuda, cuda:N, or auto: the first CUDA device there is")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Compute threads; 0: one per core")->check(CLI::Range(0, 1024));
  app.add_option("--prompt", options.prompt, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--gen", options.gen, "Decode steps")->check(CLI::Range(0, 1 << 20))->capture_default_str();
  app.add_option("--batch", options.batch, "Sequences that decode together")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--repeat", options.repeat, "Measured runs")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--prefill-chunk", options.prefill_chunk, "Tokens of a prefill unit")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--page-tokens", options.page_tokens, "Entries per KV page")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--kv-dtype", options.kv_dtype, "bf16 or f32")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  app.add_option("--compute", options.compute, "Arithmetic of quantised linear layers: int8 or f32")
      ->check(CLI::IsMember({"int8", "f32"}))
      ->capture_default_str();
  app.add_option("--policy", options.policy,
                 "How the prompt is compressed: full, or ALLOCATOR+SCORER@RATIO like lukv+expected_attention@0.8")
      ->capture_default_str();
  app.add_option("--curves", options.curves,
                 "Folder with the model's budget curves [one of this model under ../share/lukv/profiles]");
  app.add_option("--seed", options.seed, "Of the random ids")->capture_default_str();
  app.add_flag("--ops", options.ops, "A table of the device's ops as well");
  app.add_flag("--json", options.json, "One JSON object instead of text");
  app.add_option("--trace", options.trace,
                 "The ops' calls, one by one, into this file: JSON as chrome://tracing and Perfetto read it; implies "
                 "--ops");
}

void AddRoofline(CLI::App& app, BenchOptions& options) {
  app.add_option("--roofline", options.roofline,
                 "No run, no device: what decode steps, prefills and evictions of a model of this shape cost, and the "
                 "least time that they take on a device of the given peaks")
      ->check(CLI::IsMember(PresetNames()));
  app.add_option("--peak-bandwidth", options.peak_bandwidth, "TB/s of that device")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--peak-flops", options.peak_flops, "TFLOP/s of that device's matrix products")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

// What is wrong; empty if nothing.
std::string Complaint(const BenchOptions& options) {
  const int given = !options.model.empty() + !options.dummy_weights.empty() + !options.roofline.empty();
  if (given != 1) return "one of --model, --dummy-weights and --roofline is required";
  if (const absl::Status device = CheckDeviceName(options.device); !device.ok()) return std::string(device.message());
  const absl::StatusOr<Policy> policy = ParsePolicy(options.policy);
  return policy.ok() ? "" : std::string(policy.status().message());
}

}  // namespace

std::variant<BenchOptions, ExitRequest> ParseBenchOptions(int argc, const char* const* argv) {
  BenchOptions options;
  CLI::App app(kAbout, "lukv-bench");
  AddRun(app, options);
  AddRoofline(app, options);
  if (std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return *std::move(exit);
  if (const std::string complaint = Complaint(options); !complaint.empty()) return WrongSetting(app, complaint);
  options.ops = options.ops || !options.dummy_weights.empty() || !options.trace.empty();
  return options;
}

}  // namespace lukv
