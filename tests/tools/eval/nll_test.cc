#include "tools/eval/nll.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/tools/eval/eval_fixture.h"

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

TEST(NegativeLogLikelihood, OfASoftmax) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  EXPECT_NEAR(NegativeLogLikelihood(logits, 0), std::log(8.0), 1e-6);
  EXPECT_NEAR(NegativeLogLikelihood(logits, 2), std::log(8.0 / 5), 1e-6);
  // A common summand, however large, changes nothing.
  const std::vector<float> shifted = {1000, 1000, 1000, 1000};
  EXPECT_NEAR(NegativeLogLikelihood(shifted, 3), std::log(4.0), 1e-9);
}

TEST(ReferenceDistributions, Divergence) {
  ReferenceDistributions reference;
  const std::vector<float> even = {3, 3};
  const std::vector<float> skewed = {std::log(3.0f), std::log(1.0f)};
  reference.Add(even);
  reference.Add(skewed);
  EXPECT_NEAR(reference.Divergence(0, even), 0, 1e-7);
  EXPECT_NEAR(reference.Divergence(1, skewed), 0, 1e-7);
  // Both ways, which differ: 1/2 ln(1/2 / 3/4) + 1/2 ln(1/2 / 1/4), and 3/4 ln(3/4 / 1/2) + 1/4 ln(1/4 / 1/2).
  EXPECT_NEAR(reference.Divergence(0, skewed), 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-6);
  EXPECT_NEAR(reference.Divergence(1, even), 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-6);
  EXPECT_EQ(reference.likeliest(0), 0);
  EXPECT_EQ(reference.likeliest(1), 0);
}

TEST(NllSamples, AreSpreadOverTheText) {
  const WordTokenizer tokenizer;
  std::string text;
  constexpr int kWords = 2000;
  for (int i = 0; i < kWords; ++i) text += " w";
  text.replace(0, 2, " first");
  text.replace(text.size() - 1, 1, "last");
  const auto samples = NllSamples(tokenizer, text, 100, 3);
  ASSERT_TRUE(samples.ok()) << samples.status();
  ASSERT_THAT(*samples, SizeIs(3));
  for (const NllSample& sample : *samples) {
    EXPECT_THAT(sample.context, SizeIs(100));
    EXPECT_EQ(sample.context.front(), tokenizer.bos());
    EXPECT_THAT(sample.continuation, SizeIs(kNllMore));
  }
  EXPECT_EQ(tokenizer.Piece((*samples)[0].context[1], true), " first");
  EXPECT_EQ(tokenizer.Piece((*samples)[1].context[1], true), " w");
  EXPECT_EQ(tokenizer.Piece((*samples)[2].continuation.back(), true), " last");
  // Exactly one window, however many are asked for.
  EXPECT_THAT(*NllSamples(tokenizer, text, kWords - kNllMore + 1, 5), SizeIs(1));
  EXPECT_THAT(NllSamples(tokenizer, text, kWords - kNllMore + 2, 5).status().message(), HasSubstr("this one has 2000"));
}

}  // namespace
}  // namespace lukv
