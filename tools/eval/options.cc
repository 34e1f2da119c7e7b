#include "tools/eval/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <optional>

#include "base/share_folder.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-eval";

// Lists as they are written.
struct RawLists {
  std::vector<std::string> tasks = {"needle"};
  std::vector<std::string> policies = {"full", "lukv+expected_attention"};
  std::vector<double> ratios = {0.8};
  std::string style = "completion";
  uint64_t kv_memory = uint64_t{6} << 30;
};

void AddWhat(CLI::App& app, EvalCommand& command, RawLists& raw) {
  EvaluationRequest& request = command.request;
  app.add_option("--model", command.model.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--tasks", raw.tasks,
                 "Tasks, separated by commas: needle (8 tasks), ruler (13), longbench (16), nll, or single ones")
      ->delimiter(',')
      ->capture_default_str();
  request.lengths = {1500};
  app.add_option("--length", request.lengths, "Tokens of a sample with its answer; nll: tokens of the context")
      ->delimiter(',')
      ->check(CLI::Range(64, 1 << 24))
      ->capture_default_str();
  request.samples = 4;
  app.add_option("--samples", request.samples, "Samples per task and length")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--policies", raw.policies, "full and policies; one without @RATIO stands for one per --ratios")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--ratios", raw.ratios, "Parts of the context's cache that are removed")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 0.9999))
      ->capture_default_str();
  app.add_option("--style", raw.style, "completion: texts to continue; chat: the model's chat template")
      ->check(CLI::IsMember({"completion", "chat"}))
      ->capture_default_str();
  app.add_option("--seed", request.seed, "Of the samples")->capture_default_str();
}

void AddHow(CLI::App& app, EvalCommand& command, RawLists& raw) {
  app.add_option("--json", command.json, "Write the results to this file");
  app.add_option("--plot", command.plots, "Write pictures (SVG) to this folder: score over compression ratio");
  app.add_option("--longbench", command.request.longbench, "Folder with LongBench's published NAME.jsonl files");
  app.add_option("--text", command.text, "Text for nll [essays that come with lukv]")->check(CLI::ExistingFile);
  command.data = ShareFolder("eval");
  app.add_option("--data", command.data, "Folder of the texts that samples are made of [../share/lukv/eval]");
  app.add_option("--curves", command.model.curves,
                 "Folder with the model's budget curves [one of this model under ../share/lukv/profiles]");
  app.add_option("--threads", command.model.threads, "Compute threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--kv-memory", raw.kv_memory, "Memory for the caches of all policies of a sample")
      ->transform(CLI::AsSizeValue(true))
      ->default_str("6GiB");
}

// Empty if all is well.
std::string Convert(const RawLists& raw, EvalCommand& command) {
  EvaluationRequest& request = command.request;
  auto tasks = ParseTasks(raw.tasks);
  if (!tasks.ok()) return "--tasks: " + std::string(tasks.status().message());
  request.tasks = *std::move(tasks);
  auto policies = ParsePolicies(raw.policies, raw.ratios);
  if (!policies.ok()) return "--policies: " + std::string(policies.status().message());
  request.policies = *std::move(policies);
  request.style = raw.style == "chat" ? PromptStyle::kChat : PromptStyle::kCompletion;
  const bool longbench = std::any_of(request.tasks.begin(), request.tasks.end(),
                                     [](const std::string& task) { return KindOf(task) == TaskKind::kLongBench; });
  if (longbench && request.longbench.empty()) return "--longbench: LongBench's tasks need the folder of its files";
  command.model.kv_memory = static_cast<int64_t>(std::min<uint64_t>(raw.kv_memory, INT64_MAX));
  command.model.max_length = LongestSample(request);
  return "";
}

}  // namespace

std::variant<EvalCommand, ExitRequest> ParseEvalCommand(int argc, const char* const* argv) {
  EvalCommand command;
  RawLists raw;
  CLI::App app(
      "Quality and cost of eviction policies side by side. The context of each sample is prefilled once without its\n"
      "question, every policy keeps its choice of the same layers, and all answer the question. Prints tables\n"
      "(Markdown). Scores: 0 to 100; nll: nats per token, with KL and top-1 agreement against the full cache.\n"
      "Tasks that the full cache scores below 50 on say nothing of eviction: they are marked and in no mean.\n"
      "prefill_s is the context's, for all policies together; decode_s one token's, measured alone on one sample.",
      kProgram);
  AddWhat(app, command, raw);
  AddHow(app, command, raw);
  if (std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return *std::move(exit);
  if (const std::string wrong = Convert(raw, command); !wrong.empty()) return WrongSetting(app, wrong);
  return command;
}

}  // namespace lukv
