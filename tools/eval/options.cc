#include "tools/eval/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "base/installation.h"
#include "base/str_cat.h"
#include "tools/eval/policies.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-eval";

// As the user writes them.
struct RawLists {
  std::vector<std::string> tasks = {"needle"};
  std::string policies = "full,lukv+expected_attention";
  std::vector<double> ratios = {0.8};
  std::string style = "completion";
  uint64_t kv_memory = uint64_t{6} << 30;
};

void AddWhat(CLI::App& app, EvalCommand& command, RawLists& raw) {
  app.add_option("--model", command.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--tasks", raw.tasks,
                 "Tasks: names of RULER's (niah_single_1 ... qa_2) and LongBench's, nll, or the groups needle (8 niah "
                 "tasks), ruler (13), longbench (16)")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--length", command.lengths,
                 "Tokens of context, question and answer together; of an nll the context's alone")
      ->delimiter(',')
      ->check(CLI::Range(128, 1 << 22))
      ->capture_default_str();
  app.add_option("--samples", command.samples, "Of each task at each length")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--policies", raw.policies,
                 "full, ALLOCATOR+SCORER@RATIO, or ALLOCATOR+SCORER for each of --ratios; full always runs, as the "
                 "others are compared with it")
      ->capture_default_str();
  app.add_option("--ratios", raw.ratios, "Parts of the context's KV entries that are removed")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--style", raw.style, "completion: a text to continue; chat: in the model's chat template")
      ->check(CLI::IsMember({"completion", "chat"}))
      ->capture_default_str();
  app.add_option("--seed", command.seed, "Of RULER's samples")->capture_default_str();
}

void AddFilesAndMachine(CLI::App& app, EvalCommand& command, RawLists& raw) {
  app.add_option("--json", command.json, "Write the results to this file");
  app.add_option("--plot", command.plot, "Draw pictures (SVG) into this folder: score over ratio");
  app.add_option("--longbench", command.longbench, "Folder with LongBench's published files (TASK.jsonl)");
  app.add_option("--text", command.text, "Text for nll [a story of some 5,000 tokens that comes with lukv]");
  app.add_option("--curves", command.curves,
                 "Folder with the model's budget curves [one of this model under ../share/lukv/profiles]");
  app.add_option("--data", command.data, "Folder with the texts of the samples [../share/lukv/eval]");
  app.add_option("--device", command.device, "cpu, cuda, cuda:N, or auto: the first CUDA device there is")
      ->capture_default_str();
  app.add_option("--threads", command.threads, "Compute threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--kv-memory", raw.kv_memory,
                 "Memory for the KV caches; policies that do not fit together prefill the context again")
      ->transform(CLI::AsSizeValue(true))
      ->default_str("6GiB");
}

absl::Status Resolve(const RawLists& raw, EvalCommand& command) {
  const auto tasks = ParseTasks(raw.tasks);
  if (!tasks.ok()) return tasks.status();
  command.tasks = *tasks;
  if (std::any_of(tasks->begin(), tasks->end(),
                  [](const std::string& task) { return KindOf(task) == TaskKind::kLongBench; }) &&
      command.longbench.empty()) {
    return absl::InvalidArgumentError("--longbench names the folder of LongBench's files");
  }
  const auto policies = ExpandPolicies(SplitPolicyNames(raw.policies), raw.ratios);
  if (!policies.ok()) return policies.status();
  command.policies = *policies;
  std::vector<int32_t> lengths;
  for (const int32_t length : command.lengths) {
    if (std::find(lengths.begin(), lengths.end(), length) == lengths.end()) lengths.push_back(length);
  }
  command.lengths = std::move(lengths);
  command.style = raw.style == "chat" ? PromptStyle::kChat : PromptStyle::kCompletion;
  if (command.data.empty()) command.data = ShareFolder("eval");
  command.kv_memory = static_cast<int64_t>(std::min<uint64_t>(raw.kv_memory, INT64_MAX));
  return absl::OkStatus();
}

}  // namespace

std::variant<EvalCommand, ExitRequest> ParseEvalCommand(int argc, const char* const* argv) {
  EvalCommand command;
  RawLists raw;
  CLI::App app(
      "Quality and cost of eviction policies side by side. Each sample's context is prefilled once, without its\n"
      "question; every policy keeps its part of it, and the question follows at its original position.",
      kProgram);
  AddWhat(app, command, raw);
  AddFilesAndMachine(app, command, raw);
  app.footer(
      "JSON: a list of {task, length, policy, ratio, score, samples, kv_bytes_full, kv_bytes_resident, prefill_s,\n"
      "decode_s}, for nll also kl (to the full cache, nats) and top1 (part of equal choices). Values are means over\n"
      "samples. score is 0 to 100; of nll it is nats per token. kv_bytes_* count the pages held after the question.\n"
      "prefill_s is the time of the context's one prefill with all policies' evictions, the same for all of them.\n"
      "Answers are decoded in one batch of all policies, so decode_s is measured apart: the seconds of one token when\n"
      "the policy's sequence decodes alone, best of 5, after each task's first sample.\n"
      "Exit codes: 0 done; 1 failed; 2 wrong settings; 130 ended by Ctrl-C.");
  if (std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return *std::move(exit);
  if (const absl::Status status = Resolve(raw, command); !status.ok()) {
    return WrongSetting(app, std::string(status.message()));
  }
  return command;
}

}  // namespace lukv
