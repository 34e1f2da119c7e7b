// lukv-eval: what eviction policies cost in quality and save in memory and time.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/signal_thread.h"
#include "base/status_macros.h"
#include "tools/eval/evaluation.h"
#include "tools/eval/options.h"
#include "tools/eval/plots.h"
#include "tools/progress/progress.h"

namespace lukv {
namespace {

constexpr int kInterrupted = 130;

absl::Status Run(EvalCommand command, const std::atomic<bool>& stop) {
  LUKV_ASSIGN_OR_RETURN(const EvalText text, LoadEvalText(command.data));
  command.request.nll_text = JoinEssays(text);
  if (!command.text.empty()) {
    LUKV_ASSIGN_OR_RETURN(command.request.nll_text, ReadTextFile(command.text));
  }
  if (!command.plots.empty()) {
    std::error_code error;
    std::filesystem::create_directories(command.plots, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat("cannot make ", command.plots, ": ", error.message()));
  }
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<EvalModel> model, EvalModel::Open(command.model, stop));
  std::vector<EvalResult> results;
  {
    ProgressPrinter printer("samples");
    LUKV_ASSIGN_OR_RETURN(
        results, Evaluate(*model, command.request, text, [&](const Progress& progress) { printer.Print(progress); }));
  }
  std::printf("%s", ResultsMarkdown(results).c_str());
  std::fflush(stdout);
  if (!command.json.empty()) LUKV_RETURN_IF_ERROR(WriteWholeFile(command.json, ResultsJson(results)));
  return command.plots.empty() ? absl::OkStatus() : WritePlots(results, command.plots);
}

int Main(const EvalCommand& command) {
  std::atomic<bool> stop = false;
  // Before any other thread; a second Ctrl-C does not wait for a good moment.
  const SignalThread signals([&](int) {
    if (stop.exchange(true)) std::_Exit(kInterrupted);
  });
  const absl::Status status = Run(command, stop);
  if (status.ok()) return 0;
  if (absl::IsCancelled(status)) return kInterrupted;
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
