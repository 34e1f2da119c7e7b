#include "tools/profile/profiler.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/model/fingerprint.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/engine/model/status_matchers.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;

std::vector<TokenId> RandomTokens(uint32_t seed, size_t n) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(n);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 90);
  return tokens;
}

// Two texts, five questions.
std::vector<ProfileText> Texts() {
  return {{.name = "one", .context = RandomTokens(1, 70), .questions = {RandomTokens(2, 5), RandomTokens(3, 9)}},
          {.name = "two",
           .context = RandomTokens(4, 61),
           .questions = {RandomTokens(5, 4), RandomTokens(6, 4), RandomTokens(7, 6)}}};
}

class Profiler : public testing::Test {
 protected:
  Profiler() {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("lukv_profiler_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    weights_ = *OpenWeights(GoldenPath("models/tiny/qwen2"));
    backend_ = *MakeCpuBackend({.threads = 2, .compute = CpuCompute::kInt8});
    model_ = std::make_unique<Model>(*Model::Load(*weights_, *backend_));
    settings_.answer.max_new = 8;
    for (const Scorer scorer : {Scorer::kExpectedAttention, Scorer::kKeyDiff}) {
      const Policy policy = DefaultPolicy(scorer);
      settings_.scorers.push_back({.settings = policy.scorer, .sink = policy.sink, .window = policy.window});
    }
  }
  ~Profiler() override { fs::remove_all(folder_); }

  std::string Folder(const std::string& name) const { return (folder_ / name).string(); }

  // Stops once `stop_after` questions are done.
  absl::StatusOr<Profile> Run(const std::string& folder, int32_t stop_after = 1000) {
    settings_.work_folder = Folder(folder);
    const std::vector<ProfileText> texts = texts_;
    const auto options = ProfileRunnerOptions(weights_->config(), texts, settings_, 1 << 30);
    EXPECT_TRUE(options.ok()) << options.status();
    const auto runner = *ModelRunner::Create(*model_, *backend_, *options);
    std::atomic<bool> stop = false;
    progress_.clear();
    return MakeProfile(
        *runner, *weights_, texts, settings_,
        [&](const ProfileProgress& progress) {
          progress_.push_back(progress);
          stop = progress.done >= stop_after;
        },
        stop);
  }

  static void ExpectEqual(const Profile& a, const Profile& b) {
    ASSERT_EQ(a.curves.size(), b.curves.size());
    for (size_t s = 0; s < a.curves.size(); ++s) {
      const auto one = a.curves[s].all(), other = b.curves[s].all();
      EXPECT_EQ(std::vector<float>(one.begin(), one.end()), std::vector<float>(other.begin(), other.end()));
    }
  }

  fs::path folder_;
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::vector<ProfileText> texts_ = Texts();
  ProfileSettings settings_;
  std::vector<ProfileProgress> progress_;
};

TEST_F(Profiler, MakesACurvePerScorer) {
  const auto profile = Run("work");
  ASSERT_TRUE(profile.ok()) << profile.status();
  ASSERT_EQ(profile->curves.size(), 2u);
  const ModelConfig& config = weights_->config();
  for (size_t s = 0; s < 2; ++s) {
    const BudgetCurve& curve = profile->curves[s];
    EXPECT_EQ(curve.n_layers(), config.n_layers);
    EXPECT_EQ(curve.n_kv_heads(), config.n_kv_heads);
    EXPECT_EQ(curve.info().model_fingerprint, *ModelFingerprint(*weights_));
    EXPECT_EQ(curve.info().scorer, settings_.scorers[s].settings);
    EXPECT_EQ(curve.info().sink, 4);
    EXPECT_EQ(curve.info().window, 1);
    EXPECT_EQ(curve.info().context_tokens, (std::vector<int32_t>{70, 61}));
    EXPECT_EQ(curve.info().questions, 5);
    // Each question's budgets add up to the ratio, but for rounding to whole entries.
    for (const int percent : {10, 50, 80, 90}) {
      double sum = 0;
      for (int32_t layer = 0; layer < config.n_layers; ++layer) {
        for (const float ratio : curve.Layer(percent / 100.0, layer)) sum += ratio;
      }
      const double heads = config.n_layers * config.n_kv_heads;
      EXPECT_NEAR(sum / heads, percent / 100.0, 0.51 / (heads * 61)) << percent;
    }
  }
  ASSERT_EQ(progress_.size(), 6u);
  for (int32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(progress_[static_cast<size_t>(i)].total, 5);
    EXPECT_EQ(progress_[static_cast<size_t>(i)].done, i);
    EXPECT_EQ(progress_[static_cast<size_t>(i)].found, 0);
  }
}

TEST_F(Profiler, AStoppedRunGoesOnAndGivesTheSameFiles) {
  const auto whole = Run("whole");
  ASSERT_TRUE(whole.ok()) << whole.status();
  for (int32_t done = 1; done < 5; ++done) {
    const std::string folder = "stopped" + std::to_string(done);
    EXPECT_EQ(Run(folder, done).status().code(), StatusCode::kCancelled);
    const auto rest = Run(folder);
    ASSERT_TRUE(rest.ok()) << rest.status();
    EXPECT_EQ(progress_.front().found, done);
    EXPECT_EQ(progress_.front().done, done);
    EXPECT_EQ(progress_.size(), static_cast<size_t>(6 - done)) << "a question was done twice";
    ExpectEqual(*rest, *whole);
    for (size_t s = 0; s < 2; ++s) {
      ASSERT_TRUE(SaveCurve(whole->curves[s], Folder("whole.npy")).ok());
      ASSERT_TRUE(SaveCurve(rest->curves[s], Folder("rest.npy")).ok());
      for (const char* extension : {".npy", ".json"}) {
        EXPECT_EQ(*ReadWholeFile(Folder("rest") + extension, 1 << 20),
                  *ReadWholeFile(Folder("whole") + extension, 1 << 20));
      }
    }
  }
}

TEST_F(Profiler, WorkFilesAreWhatItLeaves) {
  const auto profile = Run("work");
  ASSERT_TRUE(profile.ok());
  EXPECT_EQ(profile->work_files.size(), 10u);  // 5 questions for 2 scorers.
  for (const std::string& file : profile->work_files) EXPECT_TRUE(fs::remove(file)) << file;
  EXPECT_TRUE(fs::is_empty(Folder("work")));
}

TEST_F(Profiler, DamagedWorkIsDoneAgain) {
  const auto profile = Run("work");
  ASSERT_TRUE(profile.ok());
  fs::resize_file(profile->work_files[0], 100);
  std::ofstream(profile->work_files[5]) << "junk";
  const auto again = Run("work");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(progress_.front().found, 3);
  ExpectEqual(*again, *profile);
}

TEST_F(Profiler, OnlyWorkOfTheSameInputsIsTaken) {
  ASSERT_TRUE(Run("work").ok());
  const auto found = [&] {
    EXPECT_TRUE(Run("work").ok());
    return progress_.front().found;
  };
  EXPECT_EQ(found(), 5);
  settings_.answer.seed = 1;
  EXPECT_EQ(found(), 0);
  settings_.answer.temperature = 0.5f;
  EXPECT_EQ(found(), 0);
  settings_.answer.max_new = 9;
  EXPECT_EQ(found(), 0);
  settings_.answer.end_ids = {89};
  EXPECT_EQ(found(), 0);
  settings_.scorers[1].window = 2;
  EXPECT_EQ(found(), 0);
  texts_[0].context.back() += 1;  // Of two questions.
  EXPECT_EQ(found(), 3);
  texts_[1].questions[2].push_back(3);
  EXPECT_EQ(found(), 4);
  // Order and number of questions do not matter to the single one, nor does a scorer that goes.
  std::swap(texts_[1].questions[0], texts_[1].questions[1]);
  texts_[0].questions.pop_back();
  settings_.scorers.pop_back();
  EXPECT_EQ(found(), 4);
}

TEST_F(Profiler, AWorkFolderThatCannotBeMadeIsAnError) {
  fs::create_directories(folder_);
  std::ofstream(folder_ / "file") << "x";
  ExpectStatus(Run("file/work").status(), StatusCode::kInvalidArgument, "cannot make the folder");
}

TEST_F(Profiler, RefusesWhatDoesNotFit) {
  const ModelConfig& config = weights_->config();
  ASSERT_EQ(config.context_length, 128);
  const auto refused = [&](const std::vector<ProfileText>& texts, int64_t kv_memory = 1 << 30) {
    return ProfileRunnerOptions(config, texts, settings_, kv_memory).status();
  };
  std::vector<ProfileText> texts = Texts();
  texts[1].context = RandomTokens(1, 115);
  ExpectStatus(refused(texts), StatusCode::kInvalidArgument,
               "two: 115 tokens, 6 of the longest question and 8 of an answer make 129; the model's context is 128");
  texts[1].context.pop_back();
  EXPECT_TRUE(refused(texts).ok());
  texts[0].context = RandomTokens(1, 5);
  ExpectStatus(refused(texts), StatusCode::kInvalidArgument, "one: has 5 tokens; expected_attention protects 4");
  texts[0].context.push_back(1);
  EXPECT_TRUE(refused(texts).ok());
  texts[0].questions.clear();
  ExpectStatus(refused(texts), StatusCode::kInvalidArgument, "one: there is no question");

  const auto options = ProfileRunnerOptions(config, Texts(), settings_, 1 << 30);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->max_context, 70 + 9 + 8);
  const int64_t bytes = options->n_pages * ModelRunner::PageBytes(config, options->kv_dtype, options->page_tokens);
  EXPECT_TRUE(refused(Texts(), bytes).ok());
  ExpectStatus(refused(Texts(), bytes - 1), StatusCode::kResourceExhausted, "the KV cache of 87 tokens takes");
}

}  // namespace
}  // namespace lukv
