// Word counting: common words and frequent words.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/str_cat.h"
#include "tools/eval/ruler_tasks.h"

namespace lukv {
namespace {

constexpr int32_t kCommonWords = 10;

// How often words come in a list.
struct Repeats {
  int32_t common = 0;
  int32_t other = 0;
  int32_t other_words = 0;
};

// Below 4,096 tokens the published task uses smaller numbers throughout.
constexpr int32_t kLongList = 4096;
constexpr Repeats kExample = {.common = 10, .other = 3, .other_words = 30};
constexpr Repeats kShortExample = {.common = 3, .other = 1, .other_words = 10};

// The first kCommonWords of `words` are the common ones.
std::string WordList(const std::vector<std::string>& words, const Repeats& repeats, Random random) {
  std::vector<std::string> list;
  const size_t n_words = size_t{kCommonWords} + static_cast<size_t>(repeats.other_words);
  for (size_t w = 0; w < n_words; ++w) {
    const int32_t n = w < kCommonWords ? repeats.common : repeats.other;
    list.insert(list.end(), static_cast<size_t>(n), words[w]);
  }
  random.Shuffle(list);
  for (size_t i = 0; i < list.size(); ++i) list[i] = StrCat(i + 1, ". ", list[i]);
  return StrCat(
      "Below is a numbered list of words. Some of the words are in it more often than the others. Remember those that "
      "are in it most often.\n",
      absl::StrJoin(list, " "));
}

constexpr char kCommonQuestion[] = "\nQuestion: What are the 10 most common words in the above list?";
constexpr char kCommonPrefix[] = "Answer: The top 10 words that appear most often in the list are:";

std::vector<std::string> CommonOf(const std::vector<std::string>& words) {
  return {words.begin(), words.begin() + kCommonWords};
}

std::string Numbered(std::vector<std::string> words) {
  for (size_t i = 0; i < words.size(); ++i) words[i] = StrCat(i + 1, ". ", words[i]);
  return absl::StrJoin(words, " ");
}

// All words in a random order, and behind them pairs "adjective-noun" of words other than the common ones (which must
// not turn up inside of others), for lists that are longer.
std::vector<std::string> DrawWords(const EvalText& text, Random& random) {
  std::vector<std::string> words = text.adjectives;
  words.insert(words.end(), text.nouns.begin(), text.nouns.end());
  random.Shuffle(words);
  const std::set<std::string> common(words.begin(), words.begin() + kCommonWords);
  std::vector<std::string> pairs;
  for (const std::string& adjective : text.adjectives) {
    if (common.contains(adjective)) continue;
    for (const std::string& noun : text.nouns) {
      if (!common.contains(noun)) pairs.push_back(StrCat(adjective, "-", noun));
    }
  }
  random.Shuffle(pairs);
  words.insert(words.end(), std::make_move_iterator(pairs.begin()), std::make_move_iterator(pairs.end()));
  return words;
}

}  // namespace

SampleFamily CommonWordsFamily(const EvalText& text, int32_t length, Random random) {
  const bool long_list = length >= kLongList;
  const std::vector<std::string> example = DrawWords(text, random);
  const std::string shown = StrCat(WordList(example, long_list ? kExample : kShortExample, Random(random.Bits())),
                                   kCommonQuestion, "\n", kCommonPrefix, " ", Numbered(CommonOf(example)), "\n\n");
  const Repeats repeats = long_list ? Repeats{.common = 30, .other = 3} : Repeats{.common = 6, .other = 1};
  auto words = std::make_shared<const std::vector<std::string>>(DrawWords(text, random));
  const auto build = [shown, words, repeats, order = Random(random.Bits())](int32_t size) {
    Repeats sized = repeats;
    sized.other_words = size;
    return EvalSample{.context = StrCat(shown, WordList(*words, sized, order)),
                      .question = kCommonQuestion,
                      .answer_prefix = kCommonPrefix,
                      .references = CommonOf(*words),
                      .max_new_tokens = 120};
  };
  return {.min_size = kCommonWords, .max_size = static_cast<int32_t>(words->size()) - kCommonWords, .build = build};
}

SampleFamily FrequentWordsFamily(int32_t length, Random random) {
  constexpr size_t kLetters = 6;
  constexpr size_t kAnswers = 3;
  constexpr double kZeta2 = std::numbers::pi * std::numbers::pi / 6;
  // As published, the vocabulary grows with the length; its most frequent "word" are dots that do not count.
  const size_t n_words = std::max<size_t>(static_cast<size_t>(length) / 50, 2 * (kAnswers + 1));
  std::vector<std::string> drawn = {"..."};
  std::set<std::string> seen;
  while (drawn.size() < n_words) {
    std::string word;
    for (size_t i = 0; i < kLetters; ++i) word += static_cast<char>('a' + random.Below(26));
    if (seen.insert(word).second) drawn.push_back(std::move(word));
  }
  auto words = std::make_shared<const std::vector<std::string>>(std::move(drawn));
  const auto build = [words, order = random](int32_t size) {
    std::vector<std::string> coded;
    for (size_t rank = 1; rank <= words->size(); ++rank) {
      const double share = 1.0 / (static_cast<double>(rank) * static_cast<double>(rank) * kZeta2);
      coded.insert(coded.end(), static_cast<size_t>(size * share), (*words)[rank - 1]);
    }
    Random(order).Shuffle(coded);
    return EvalSample{
        .context = StrCat("Read the following coded text and keep count of its words. Find the three coded words that "
                          "appear most often.\n\n",
                          absl::StrJoin(coded, " ")),
        .question =
            "\n\nQuestion: Do not explain anything. Please ignore the dots '...'. What are the three most "
            "frequently appeared words in the above coded text?",
        .answer_prefix = "Answer: According to the coded text above, the three most frequently appeared words are:",
        .references = {words->begin() + 1, words->begin() + 1 + kAnswers},
        .max_new_tokens = 50};
  };
  // From here on the third answer comes more often than the word after it.
  constexpr int32_t kLeast = 120;
  return {.min_size = kLeast, .build = build};
}

}  // namespace lukv
