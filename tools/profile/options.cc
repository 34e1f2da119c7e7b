#include "tools/profile/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "base/installation.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/evict/policy.h"

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-profile";

void AddInputs(CLI::App& app, ProfileCommand& command, std::vector<std::string>& scorers) {
  app.add_option("--model", command.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--out", command.out, "Folder for SCORER.npy, .json and .svg; made if missing")->required();
  app.add_option("--context", command.contexts,
                 "Text files to profile with [a story and a program that come with lukv]");
  app.add_option("--questions", command.questions,
                 "For each text a file of questions about it, in the same order; a line is a question, and after a tab "
                 "may come the first words of its answer");
  app.add_option("--scorer", scorers, "Scorers as a policy spells them, e.g. snapkv:queries=64,window=64")
      ->default_str("expected_attention snapkv keydiff");
}

void AddSettings(CLI::App& app, ProfileCommand& command, uint64_t& kv_memory) {
  app.add_option("--device", command.device, "cpu, cuda, cuda:N, or auto: the first CUDA device there is")
      ->capture_default_str();
  app.add_option("--threads", command.threads, "Compute threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--kv-memory", kv_memory, "Most memory for the KV cache of one text")
      ->transform(CLI::AsSizeValue(true))
      ->default_str("2GiB");
  app.add_option("--max-new", command.max_new, "Most tokens of an answer")
      ->check(CLI::Range(2, 1 << 16))
      ->capture_default_str();
  app.add_option("--temperature", command.temperature, "Of the answers; 0: always the likeliest token")
      ->check(CLI::Range(0.0f, 100.0f))
      ->capture_default_str();
  app.add_option("--seed", command.seed, "Of the answers")->capture_default_str();
}

// Empty if all is well.
std::string FillTexts(ProfileCommand& command) {
  if (command.contexts.empty() && command.questions.empty()) {
    const std::string folder = ShareFolder("calibration");
    for (const char* name : {"prose", "code"}) {
      command.contexts.push_back(StrCat(folder, "/", name, ".txt"));
      command.questions.push_back(StrCat(folder, "/", name, ".questions"));
    }
  }
  if (command.contexts.size() == command.questions.size()) return "";
  return StrCat("--context and --questions go together: got ", command.contexts.size(), " and ",
                command.questions.size(), " files");
}

std::string FillScorers(const std::vector<std::string>& texts, ProfileCommand& command) {
  if (texts.empty()) {
    for (const Scorer scorer : {Scorer::kExpectedAttention, Scorer::kSnapKv, Scorer::kKeyDiff}) {
      const Policy policy = DefaultPolicy(scorer);
      command.scorers.push_back({.settings = policy.scorer, .sink = policy.sink, .window = policy.window});
    }
  }
  for (const std::string& text : texts) {
    const auto scorer = ParseProfileScorer(text);
    if (!scorer.ok()) return StrCat("--scorer ", text, ": ", std::string(scorer.status().message()));
    command.scorers.push_back(*scorer);
  }
  std::set<std::string> names;
  for (const ProfileScorer& scorer : command.scorers) {
    if (!names.insert(CurveFileName(scorer)).second)
      return StrCat("--scorer: ", CurveFileName(scorer), " is there twice");
  }
  return "";
}

}  // namespace

absl::StatusOr<ProfileScorer> ParseProfileScorer(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  LUKV_ASSIGN_OR_RETURN(const Policy policy,
                        ParsePolicy(StrCat("lukv+", text.substr(0, colon), "@0.8", text.substr(colon))));
  if (policy.floors) return absl::InvalidArgumentError("floors belong to a request, not to a curve");
  return ProfileScorer{.settings = policy.scorer, .sink = policy.sink, .window = policy.window};
}

std::string CurveFileName(const ProfileScorer& scorer) {
  std::string name = ScorerLabel(scorer.settings, scorer.sink, scorer.window);
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '-';
  }
  return name;
}

std::variant<ProfileCommand, ExitRequest> ParseProfileCommand(int argc, const char* const* argv) {
  ProfileCommand command;
  std::vector<std::string> scorers;
  uint64_t kv_memory = static_cast<uint64_t>(command.kv_memory);
  CLI::App app(
      "Makes a model's LU-KV budget curves: answers questions about calibration texts, sees which cached entries the\n"
      "answers needed, and shares the cache out over the heads accordingly. Stopped with Ctrl-C or cut off, the same\n"
      "command goes on where it was.",
      kProgram);
  AddInputs(app, command, scorers);
  AddSettings(app, command, kv_memory);
  if (std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return *std::move(exit);
  command.kv_memory = static_cast<int64_t>(std::min<uint64_t>(kv_memory, INT64_MAX));
  for (const std::string& wrong : {FillTexts(command), FillScorers(scorers, command)}) {
    if (!wrong.empty()) return WrongSetting(app, wrong);
  }
  return command;
}

}  // namespace lukv
