// Values by hand from the published formulas, and from the packages that LongBench uses (rouge 1.0.1, and fuzzywuzzy
// 0.18 with python-Levenshtein: 0.78 below).
#include "tools/eval/text_metrics.h"

#include <gtest/gtest.h>

#include <vector>

namespace lukv {
namespace {

TEST(LowerCase, OfAllScripts) {
  EXPECT_EQ(LowerCase("ABC Äß Щ 12"), "abc äß щ 12");
  EXPECT_EQ(LowerCase("A\xff\xc3"), "a\xff\xc3");
}

TEST(NormalizeAnswer, TakesAwayWhatDoesNotCount) {
  EXPECT_EQ(NormalizeAnswer("The  Cat's\n(an) old HAT, a hat."), "cats old hat hat");
  EXPECT_EQ(NormalizeAnswer("theatre another"), "theatre another");
  EXPECT_EQ(NormalizeAnswer("The."), "");
}

TEST(TokenF1, CountsWordsWithRepetitions) {
  EXPECT_DOUBLE_EQ(TokenF1("the red house", "Red House!"), 1);
  // 1 common word; 1/3 precision, 1/2 recall.
  EXPECT_DOUBLE_EQ(TokenF1("big red barn", "red house"), 2 * (1. / 3) * (1. / 2) / (1. / 3 + 1. / 2));
  // "red" is wanted once only.
  EXPECT_DOUBLE_EQ(TokenF1("red red red", "red"), 2 * (1. / 3) / (1. / 3 + 1));
  EXPECT_DOUBLE_EQ(TokenF1("blue", "red"), 0);
  EXPECT_DOUBLE_EQ(TokenF1("", "red"), 0);
  EXPECT_DOUBLE_EQ(TokenF1("the", "the"), 0);  // Nothing is left of either.
}

TEST(RougeL, OneSentence) {
  EXPECT_NEAR(RougeL("the cat sat", "the cat sat"), 1, 1e-7);
  // "police killed the gunman" / "police kill the gunman": 3 of 4 in both.
  EXPECT_NEAR(RougeL("police kill the gunman", "police killed the gunman"), 0.75, 1e-7);
  // Order counts: the longest common subsequence of these has one word.
  EXPECT_NEAR(RougeL("c b a", "a b c"), 1. / 3, 1e-7);
  EXPECT_DOUBLE_EQ(RougeL("", "a"), 0);
  EXPECT_DOUBLE_EQ(RougeL("...", "a"), 0);
  EXPECT_DOUBLE_EQ(RougeL("b", "a"), 0);
}

// Lin's example: reference w1 w2 w3 w4 w5, answer sentences w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: the union has 4 words.
TEST(RougeL, UnitesSentences) {
  const double recall = 4. / 5, precision = 4. / 8;  // 8 different words in the answer.
  EXPECT_NEAR(RougeL("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5"), 2 * recall * precision / (recall + precision),
              1e-7);
}

TEST(RougeL, AsThePackageHasIt) {
  EXPECT_NEAR(RougeL("The committee met on Monday. It agreed to the plan, but not to its cost.  Nobody voted against.",
                     "On Monday the committee agreed to the plan. The cost was not agreed. Two members voted against "
                     "it."),
              0.42424241924701567, 1e-12);
  EXPECT_NEAR(RougeL("a . b", "b . a"), 0.999999995, 1e-9);
  EXPECT_NEAR(RougeL("x. y. z", "z y. x"), 0.999999995, 1e-9);
}

TEST(RougeL, WordsCountOnce) {
  // Subsequence "a b", words {a, b} of {a, b} in both.
  EXPECT_NEAR(RougeL("a b a b a b", "a b"), 1, 1e-7);
}

TEST(ClassificationScore, SharesAmongTheClassesNamed) {
  const std::vector<std::string> classes = {"Animal", "Color", "Other animal", "Reason"};
  EXPECT_DOUBLE_EQ(ClassificationScore("Type: Color", "Color", classes), 1);
  EXPECT_DOUBLE_EQ(ClassificationScore("Color or Reason", "Color", classes), 0.5);
  EXPECT_DOUBLE_EQ(ClassificationScore("Reason", "Color", classes), 0);
  EXPECT_DOUBLE_EQ(ClassificationScore("color", "Color", classes), 0);
  // A class whose name is part of the right one's does not count as named.
  const std::vector<std::string> nested = {"animal", "Other animal"};
  EXPECT_DOUBLE_EQ(ClassificationScore("Other animal", "Other animal", nested), 1);
  EXPECT_DOUBLE_EQ(ClassificationScore("Other animal", "animal", nested), 0.5);
}

TEST(CountScore, PartOfTheNumbers) {
  EXPECT_DOUBLE_EQ(CountScore("There are 12.", "12"), 1);
  EXPECT_DOUBLE_EQ(CountScore("12 of 30, so 12", "12"), 2. / 3);
  EXPECT_DOUBLE_EQ(CountScore("112", "12"), 0);
  EXPECT_DOUBLE_EQ(CountScore("twelve", "12"), 0);
}

TEST(RetrievalScore, NumberOfTheParagraph) {
  EXPECT_DOUBLE_EQ(RetrievalScore("Paragraph 7", "Paragraph 7"), 1);
  EXPECT_DOUBLE_EQ(RetrievalScore("7 or 8", "Paragraph 7"), 0.5);
  EXPECT_DOUBLE_EQ(RetrievalScore("7", "Paragraph 17"), 0);
  EXPECT_DOUBLE_EQ(RetrievalScore("7", "no such thing"), 0);
}

TEST(CodeSimilarity, OfTheFirstLineOfCode) {
  EXPECT_DOUBLE_EQ(CodeSimilarity("\n\nreturn x\nmore", "return x"), 1);
  EXPECT_DOUBLE_EQ(CodeSimilarity("```python\n# note\n// note\nreturn x", "return x"), 1);
  // "abcd" and "abxd": common "abd"; 6/8. "kitten" and "sitting": "ittn"; 8/13 = 0.615.
  EXPECT_DOUBLE_EQ(CodeSimilarity("abcd", "abxd"), 0.75);
  EXPECT_DOUBLE_EQ(CodeSimilarity("kitten", "sitting"), 0.62);
  EXPECT_DOUBLE_EQ(CodeSimilarity("    return self.value(x, y)", "        return self.values[x][y]"), 0.78);
  EXPECT_DOUBLE_EQ(CodeSimilarity("ä", "ö"), 0);
  EXPECT_DOUBLE_EQ(CodeSimilarity("", ""), 1);
  EXPECT_DOUBLE_EQ(CodeSimilarity("", "x"), 0);
  EXPECT_DOUBLE_EQ(CodeSimilarity("# only a note", "x"), 0);
}

}  // namespace
}  // namespace lukv
