// lukv-profile: LU-KV budget curves of a model, from its own answers to questions about calibration texts.
#include <algorithm>
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
#include "engine/model/model.h"
#include "kernels/device.h"
#include "tools/profile/calibration.h"
#include "tools/profile/heat_map.h"
#include "tools/profile/options.h"
#include "tools/profile/profiler.h"
#include "tools/progress/progress.h"

namespace lukv {
namespace {

constexpr int kInterrupted = 130;

// The sorted parts that the heads keep at 80 % removed.
std::vector<double> KeptParts(const BudgetCurve& curve) {
  std::vector<double> kept;
  for (int32_t layer = 0; layer < curve.n_layers(); ++layer) {
    for (const float pruned : curve.Layer(0.8, layer)) kept.push_back(1.0 - pruned);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

absl::Status SaveProfile(const ProfileCommand& command, const Profile& profile) {
  for (size_t s = 0; s < profile.curves.size(); ++s) {
    const BudgetCurve& curve = profile.curves[s];
    const std::string path = absl::StrCat(command.out, "/", CurveFileName(command.scorers[s]));
    LUKV_RETURN_IF_ERROR(SaveCurve(curve, absl::StrCat(path, ".npy")));
    LUKV_RETURN_IF_ERROR(WriteWholeFile(absl::StrCat(path, ".svg"), HeatMap(curve)));
    const std::vector<double> kept = KeptParts(curve);
    std::printf("%s.npy: at 80 %% removed the heads keep %.1f %% to %.1f %%, half of them less than %.1f %%\n",
                path.c_str(), 100 * kept.front(), 100 * kept.back(), 100 * kept[kept.size() / 2]);
  }
  // Only now: until the curves are there, this is all there is of the work.
  std::error_code ignored;
  for (const std::string& file : profile.work_files) std::filesystem::remove(file, ignored);
  return absl::OkStatus();
}

absl::Status Run(const ProfileCommand& command, const std::atomic<bool>& stop) {
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(command.model));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> weights, OpenWeights(command.model));
  std::vector<ProfileText> texts;
  for (size_t i = 0; i < command.contexts.size(); ++i) {
    LUKV_ASSIGN_OR_RETURN(ProfileText text, LoadText(*tokenizer, command.contexts[i], command.questions[i]));
    texts.push_back(std::move(text));
  }
  const std::string work_folder = absl::StrCat(command.out, "/.lukv-profile");
  const ProfileSettings settings{.scorers = command.scorers,
                                 .answer = {.max_new = command.max_new,
                                            .temperature = command.temperature,
                                            .seed = command.seed,
                                            .end_ids = tokenizer->end_tokens()},
                                 .work_folder = work_folder};
  LUKV_ASSIGN_OR_RETURN(const RunnerOptions options,
                        ProfileRunnerOptions(weights->config(), texts, settings, command.kv_memory));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        MakeBackend({.device = command.device, .cpu = {.threads = command.threads}}));
  LUKV_ASSIGN_OR_RETURN(const Model model, Model::Load(*weights, *backend));
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner, ModelRunner::Create(model, *backend, options));

  Profile profile;
  {
    ProgressPrinter printer("questions");
    LUKV_ASSIGN_OR_RETURN(profile, MakeProfile(
                                       *runner, *weights, texts, settings,
                                       [&](const Progress& progress) { printer.Print(progress); }, stop));
  }
  LUKV_RETURN_IF_ERROR(SaveProfile(command, profile));
  std::error_code ignored;
  std::filesystem::remove(work_folder, ignored);  // Stays if other runs' work is in it.
  return absl::OkStatus();
}

int Main(const ProfileCommand& command) {
  std::atomic<bool> stop = false;
  // Before any other thread; a second Ctrl-C does not wait for a good moment.
  const SignalThread signals([&](int) {
    if (stop.exchange(true)) std::_Exit(kInterrupted);
  });
  const absl::Status status = Run(command, stop);
  if (status.ok()) return 0;
  if (absl::IsCancelled(status)) {
    std::fprintf(stderr, "lukv-profile: stopped; the same command goes on from here\n");
    return kInterrupted;
  }
  std::fprintf(stderr, "lukv-profile: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  const auto parsed = lukv::ParseProfileCommand(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&parsed)) return lukv::Exit(*exit);
  return lukv::Main(std::get<lukv::ProfileCommand>(parsed));
}
