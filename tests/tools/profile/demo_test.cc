// What is shipped for the demo model: the calibration set as its tokenizer sees it, and its budget curves.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

#include "engine/evict/budget_curve.h"
#include "engine/model/fingerprint.h"
#include "engine/model/weight_source.h"
#include "tests/oracle/golden_files.h"
#include "tools/profile/calibration.h"

namespace lukv {
namespace {

TEST(CalibrationSet, HasTwoTextsOfAboutFourThousandTokensAndThirtyQuestionsEach) {
  const std::unique_ptr<Tokenizer> tokenizer = *LoadTokenizer(DemoModelPath());
  const std::string folder = std::string(LUKV_TEST_DATA) + "/../tools/profile/data/";
  for (const char* name : {"prose", "code"}) {
    const auto text = LoadText(*tokenizer, folder + name + ".txt", folder + name + ".questions");
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_GT(text->context.size(), 3800u) << name;
    EXPECT_LT(text->context.size(), 4300u) << name;
    EXPECT_EQ(std::set<std::vector<TokenId>>(text->questions.begin(), text->questions.end()).size(), 30u) << name;
  }
}

TEST(ShippedCurves, AreOfTheDemoModelAndAddUpToEveryRatio) {
  const std::unique_ptr<WeightSource> weights = *OpenWeights(DemoModelPath());
  const auto curves = CurveSet::Find(std::string(LUKV_TEST_DATA) + "/../deploy/profiles", weights->config(),
                                     *ModelFingerprint(*weights));
  ASSERT_TRUE(curves.ok()) << curves.status();
  for (const Scorer scorer : {Scorer::kExpectedAttention, Scorer::kSnapKv, Scorer::kKeyDiff}) {
    const Policy policy = DefaultPolicy(scorer);
    const BudgetCurve* const curve = curves->Get(policy.scorer, policy.sink, policy.window);
    ASSERT_NE(curve, nullptr) << ScorerName(scorer);
    EXPECT_EQ(curve->info().questions, 60);
    const double heads = curve->n_layers() * curve->n_kv_heads();
    const int32_t fewest = *std::min_element(curve->info().context_tokens.begin(), curve->info().context_tokens.end());
    // At 99 % the heads' floor of 1 %, rounded to whole entries, can forbid the last few.
    for (int percent = 1; percent <= 98; ++percent) {
      double sum = 0;
      for (int32_t layer = 0; layer < curve->n_layers(); ++layer) {
        for (const float ratio : curve->Layer(percent / 100.0, layer)) sum += ratio;
      }
      // Each question's budgets are exact but for the rounding of their total.
      EXPECT_NEAR(sum / heads, percent / 100.0, 0.5 / (heads * fewest) + 1e-7) << ScorerName(scorer) << " " << percent;
    }
  }
}

}  // namespace
}  // namespace lukv
