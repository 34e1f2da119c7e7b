// lukv-eval: quality and cost of eviction policies side by side.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/installation.h"
#include "base/signal_thread.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/fingerprint.h"
#include "engine/model/model.h"
#include "kernels/device.h"
#include "tools/eval/evaluation.h"
#include "tools/eval/options.h"
#include "tools/eval/plots.h"
#include "tools/progress/progress.h"

namespace lukv {
namespace {

constexpr int kInterrupted = 130;

// Results that cannot be written should not take an hour to find out.
absl::Status MakeFolders(const EvalCommand& command) {
  for (const std::filesystem::path& folder :
       {std::filesystem::path(command.plot), std::filesystem::path(command.json).parent_path()}) {
    std::error_code error;
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    if (error) return absl::UnavailableError(StrCat(folder.string(), ": cannot make the folder"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CurveSet> LoadCurves(const EvalCommand& command, const WeightSource& weights) {
  LUKV_ASSIGN_OR_RETURN(const std::string fingerprint, ModelFingerprint(weights));
  return CurveSet::Load(command.curves, ShareFolder("profiles"), weights.config(), fingerprint);
}

absl::StatusOr<std::vector<EvalResult>> Evaluate(const EvalCommand& command, const std::atomic<bool>& stop) {
  LUKV_ASSIGN_OR_RETURN(const EvalText text, LoadEvalText(command.data));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(command.model));
  LUKV_ASSIGN_OR_RETURN(const PromptFormat format, PromptFormat::Make(command.style, *tokenizer));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> weights, OpenWeights(command.model));
  LUKV_ASSIGN_OR_RETURN(const RunnerOptions options, EvalRunnerOptions(weights->config(), command));
  LUKV_ASSIGN_OR_RETURN(const CurveSet curves, LoadCurves(command, *weights));
  LUKV_ASSIGN_OR_RETURN(std::vector<EvalPolicy> policies, WithCurves(command.policies, curves));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        MakeBackend({.device = command.device, .cpu = {.threads = command.threads}}));
  LUKV_ASSIGN_OR_RETURN(const Model model, Model::Load(*weights, *backend));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner, ModelRunner::Create(model, *backend, options));
  PolicyRunner policy_runner(*runner, *tokenizer, std::move(policies), stop);
  Evaluation evaluation(command, text, format, policy_runner);
  LUKV_RETURN_IF_ERROR(evaluation.Check());
  ProgressPrinter printer("samples");
  return evaluation.Run([&](const Progress& progress) { printer.Print(progress); });
}

absl::Status Run(const EvalCommand& command, const std::atomic<bool>& stop) {
  LUKV_RETURN_IF_ERROR(MakeFolders(command));
  LUKV_ASSIGN_OR_RETURN(const std::vector<EvalResult> results, Evaluate(command, stop));
  std::fputs(ResultsMarkdown(results).c_str(), stdout);
  std::fflush(stdout);
  if (!command.json.empty()) LUKV_RETURN_IF_ERROR(WriteWholeFile(command.json, ResultsJson(results)));
  if (!command.plot.empty()) LUKV_RETURN_IF_ERROR(WritePlots(results, command.plot));
  return absl::OkStatus();
}

int Main(const EvalCommand& command) {
  std::atomic<bool> stop = false;
  // Before any other thread; a second Ctrl-C does not wait for a good moment.
  const SignalThread signals([&](int) {
    if (stop.exchange(true)) std::_Exit(kInterrupted);
  });
  const absl::Status status = Run(command, stop);
  if (status.ok()) return 0;
  if (absl::IsCancelled(status)) {
    std::fputs("lukv-eval: stopped\n", stderr);
    return kInterrupted;
  }
  std::fprintf(stderr, "lukv-eval: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  const auto parsed = lukv::ParseEvalCommand(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&parsed)) return lukv::Exit(*exit);
  return lukv::Main(std::get<lukv::EvalCommand>(parsed));
}
