#include "tools/profile/profiler.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/fnv.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "engine/evict/npy.h"
#include "engine/model/fingerprint.h"

namespace lukv {
namespace {

constexpr size_t kMaxWorkFileBytes = size_t{64} << 20;

int32_t LongestQuestion(const ProfileText& text) {
  size_t longest = 0;
  for (const std::vector<TokenId>& question : text.questions) longest = std::max(longest, question.size());
  return static_cast<int32_t>(longest);
}

int32_t Room(const ProfileText& text, const AnswerOptions& answer) { return LongestQuestion(text) + answer.max_new; }

void AddTokens(std::span<const TokenId> tokens, Fnv1a64& hash) {
  hash.Add(tokens.size());
  for (const TokenId token : tokens) hash.Add(static_cast<uint64_t>(token));
}

uint64_t HashOf(uint64_t first, std::span<const TokenId> tokens) {
  Fnv1a64 hash;
  hash.Add(first);
  AddTokens(tokens, hash);
  return hash.value();
}

// The result of one question for one scorer, [99, n_layers, n_kv_heads], under a name that depends on all that it
// depends on.
class WorkFolder {
 public:
  WorkFolder(std::string folder, const ModelConfig& config) : folder_(std::move(folder)), config_(config) {}

  absl::Status Create() const {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat(folder_, ": cannot make the folder: ", error.message()));
    return absl::OkStatus();
  }
  std::string Path(uint64_t key) const { return absl::StrFormat("%s/%016x.npy", folder_, key); }

  // Nothing if there is no such file, or one that this program cannot have written: then it is made again.
  std::optional<std::vector<float>> Load(uint64_t key) const {
    const auto file = ReadWholeFile(Path(key), kMaxWorkFileBytes);
    if (!file.ok()) return std::nullopt;
    auto array = ParseNpy(*file);
    if (!array.ok() || array->shape != Shape()) return std::nullopt;
    const auto curve = BudgetCurve::Make({}, config_.n_layers, config_.n_kv_heads, std::move(array->values));
    if (!curve.ok()) return std::nullopt;
    return std::vector<float>(curve->all().begin(), curve->all().end());
  }
  absl::Status Save(uint64_t key, std::vector<float> ratios) const {
    return WriteWholeFile(Path(key), SerializeNpy({.shape = Shape(), .values = std::move(ratios)}));
  }

 private:
  std::vector<int64_t> Shape() const { return {BudgetCurve::kRatios, config_.n_layers, config_.n_kv_heads}; }

  const std::string folder_;
  const ModelConfig& config_;
};

// One question of one text.
struct Item {
  const ProfileText* text = nullptr;
  std::span<const TokenId> question;
  uint64_t seed = 0;
  std::vector<uint64_t> keys;                             // Per scorer.
  std::vector<std::optional<std::vector<float>>> ratios;  // Per scorer.

  bool done() const {
    return std::all_of(ratios.begin(), ratios.end(), [](const auto& ratio) { return ratio.has_value(); });
  }
};

class ProfileRun {
 public:
  ProfileRun(ModelRunner& runner, const WeightSource& weights, std::span<const ProfileText> texts,
             const ProfileSettings& settings, const std::atomic<bool>& stop)
      : runner_(runner),
        weights_(weights),
        texts_(texts),
        settings_(settings),
        stop_(stop),
        work_(settings.work_folder, weights.config()) {}

  absl::StatusOr<Profile> Run(const std::function<void(const ProfileProgress&)>& progress) {
    LUKV_ASSIGN_OR_RETURN(fingerprint_, ModelFingerprint(weights_));
    LUKV_RETURN_IF_ERROR(work_.Create());
    CollectItems();
    progress(progress_);
    for (const ProfileText& text : texts_) LUKV_RETURN_IF_ERROR(RunText(text, progress));
    Profile profile;
    for (size_t s = 0; s < settings_.scorers.size(); ++s) {
      LUKV_ASSIGN_OR_RETURN(BudgetCurve curve, Average(s));
      profile.curves.push_back(std::move(curve));
    }
    for (const Item& item : items_) {
      for (const uint64_t key : item.keys) profile.work_files.push_back(work_.Path(key));
    }
    return profile;
  }

 private:
  void CollectItems() {
    for (const ProfileText& text : texts_) {
      const uint64_t seed = HashOf(settings_.answer.seed, text.context);
      for (const std::vector<TokenId>& question : text.questions) {
        // Neither the order of questions nor a further one changes the others' answers.
        Item item{.text = &text, .question = question, .seed = HashOf(seed, question)};
        for (const ProfileScorer& scorer : settings_.scorers) {
          item.keys.push_back(Key(text, question, scorer));
          item.ratios.push_back(work_.Load(item.keys.back()));
        }
        ++progress_.total;
        progress_.found += item.done() ? 1 : 0;
        items_.push_back(std::move(item));
      }
    }
    progress_.done = progress_.found;
  }

  uint64_t Key(const ProfileText& text, std::span<const TokenId> question, const ProfileScorer& scorer) const {
    Fnv1a64 hash;
    hash.AddText(kVersion);
    hash.AddText(fingerprint_);
    hash.Add(weights_.file_bytes());  // Files of one model differ in it by their quantisation.
    hash.Add(static_cast<uint64_t>(runner_.options().kv_dtype));
    AddTokens(text.context, hash);
    AddTokens(question, hash);
    hash.AddText(ScorerLabel(scorer.settings, scorer.sink, scorer.window));
    hash.Add(static_cast<uint64_t>(settings_.answer.max_new));
    hash.Add(std::bit_cast<uint32_t>(settings_.answer.temperature));
    hash.Add(settings_.answer.seed);
    AddTokens(settings_.answer.end_ids, hash);
    return hash.value();
  }

  absl::Status RunText(const ProfileText& text, const std::function<void(const ProfileProgress&)>& progress) {
    std::unique_ptr<ProfiledContext> context;
    for (Item& item : items_) {
      if (item.text != &text || item.done()) continue;
      if (context == nullptr) {
        LUKV_ASSIGN_OR_RETURN(context, ProfiledContext::Make(runner_, weights_, text.context,
                                                             Room(text, settings_.answer), settings_.scorers, stop_));
      }
      LUKV_RETURN_IF_ERROR(RunItem(*context, item));
      ++progress_.done;
      progress(progress_);
    }
    return absl::OkStatus();
  }

  absl::Status RunItem(ProfiledContext& context, Item& item) const {
    AnswerOptions options = settings_.answer;
    options.seed = item.seed;
    LUKV_ASSIGN_OR_RETURN(const ProfiledContext::Answer answer, context.Ask(item.question, options));
    for (size_t s = 0; s < item.keys.size(); ++s) {
      if (item.ratios[s].has_value()) continue;
      item.ratios[s] = context.Solve(s, answer.importance);
      LUKV_RETURN_IF_ERROR(work_.Save(item.keys[s], *item.ratios[s]));
    }
    return absl::OkStatus();
  }

  // Over all questions of all texts, which so count by how many questions they have.
  absl::StatusOr<BudgetCurve> Average(size_t scorer) const {
    const ModelConfig& config = weights_.config();
    std::vector<double> sum(items_.front().ratios[scorer]->size(), 0.0);
    for (const Item& item : items_) {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (*item.ratios[scorer])[i];
    }
    std::vector<float> mean(sum.size());
    for (size_t i = 0; i < sum.size(); ++i) mean[i] = static_cast<float>(sum[i] / static_cast<double>(items_.size()));
    CurveInfo info{.model_fingerprint = fingerprint_,
                   .model_name = config.name,
                   .scorer = settings_.scorers[scorer].settings,
                   .sink = settings_.scorers[scorer].sink,
                   .window = settings_.scorers[scorer].window,
                   .questions = progress_.total,
                   .program_version = kVersion};
    for (const ProfileText& text : texts_) info.context_tokens.push_back(static_cast<int32_t>(text.context.size()));
    return BudgetCurve::Make(std::move(info), config.n_layers, config.n_kv_heads, std::move(mean));
  }

  ModelRunner& runner_;
  const WeightSource& weights_;
  const std::span<const ProfileText> texts_;
  const ProfileSettings& settings_;
  const std::atomic<bool>& stop_;
  const WorkFolder work_;
  std::string fingerprint_;
  std::vector<Item> items_;
  ProfileProgress progress_;
};

absl::Status CheckText(const ModelConfig& config, const ProfileText& text, const ProfileSettings& settings) {
  if (text.questions.empty()) return absl::InvalidArgumentError(absl::StrCat(text.name, ": there is no question"));
  const auto context = static_cast<int64_t>(text.context.size());
  const int64_t total = context + Room(text, settings.answer);
  if (total > config.context_length) {
    return absl::InvalidArgumentError(absl::StrCat(
        text.name, ": ", context, " tokens, ", LongestQuestion(text), " of the longest question and ",
        settings.answer.max_new, " of an answer make ", total, "; the model's context is ", config.context_length));
  }
  for (const ProfileScorer& scorer : settings.scorers) {
    if (context > int64_t{scorer.sink} + scorer.window) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        text.name, ": has ", context, " tokens; ", ScorerLabel(scorer.settings, scorer.sink, scorer.window),
        " protects ", scorer.sink, " at the start and ", scorer.window, " at the end of them, which leaves no choice"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunnerOptions> ProfileRunnerOptions(const ModelConfig& config, std::span<const ProfileText> texts,
                                                   const ProfileSettings& settings, int64_t kv_memory) {
  RunnerOptions options;
  for (const ProfileText& text : texts) {
    LUKV_RETURN_IF_ERROR(CheckText(config, text, settings));
    options.max_context =
        std::max(options.max_context, static_cast<int32_t>(text.context.size()) + Room(text, settings.answer));
  }
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = options.page_tokens};
  options.n_pages = static_cast<uint32_t>(geometry.heads()) * geometry.PagesFor(options.max_context);
  const int64_t bytes = options.n_pages * ModelRunner::PageBytes(config, options.kv_dtype, options.page_tokens);
  if (bytes > kv_memory) {
    return absl::ResourceExhaustedError(absl::StrCat("the KV cache of ", options.max_context, " tokens takes ", bytes,
                                                     " bytes, more than the ", kv_memory, " allowed"));
  }
  return options;
}

absl::StatusOr<Profile> MakeProfile(ModelRunner& runner, const WeightSource& weights,
                                    std::span<const ProfileText> texts, const ProfileSettings& settings,
                                    const std::function<void(const ProfileProgress&)>& progress,
                                    const std::atomic<bool>& stop) {
  return ProfileRun(runner, weights, texts, settings, stop).Run(progress);
}

}  // namespace lukv
