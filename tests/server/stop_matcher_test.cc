#include "server/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace lukv {
namespace {

struct Outcome {
  std::string text;
  int32_t matched = -1;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << "\" matched " << outcome.matched;
}

Outcome Match(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    const StopMatcher::Result result = matcher.Push(piece);
    outcome.text += result.text;
    outcome.matched = result.matched;
    if (result.matched >= 0) return outcome;
  }
  outcome.text += matcher.Finish();
  return outcome;
}

// What the contract says, on the whole text: the first byte at which some stop string is complete, the longest of
// those.
Outcome Expected(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Outcome best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (end < stop.size() || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (best.matched < 0 || stop.size() > stops[best.matched].size()) {
        best = {text.substr(0, end - stop.size()), static_cast<int32_t>(i)};
      }
    }
    if (best.matched >= 0) return best;
  }
  return {text, -1};
}

TEST(StopMatcher, PassesTextThroughWithoutStops) { EXPECT_EQ(Match({}, {"ab", "c"}), (Outcome{"abc", -1})); }

TEST(StopMatcher, FindsAStopInsideOnePiece) { EXPECT_EQ(Match({"END"}, {"one END two"}), (Outcome{"one ", 0})); }

TEST(StopMatcher, FindsAStopAcrossPieces) { EXPECT_EQ(Match({"END"}, {"one E", "N", "D two"}), (Outcome{"one ", 0})); }

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  const std::vector<std::string> stops = {"aab"};
  StopMatcher matcher(stops);
  EXPECT_EQ(matcher.Push("xaa").text, "x");
  EXPECT_EQ(matcher.Push("a").text, "a");  // "aaa": the first a can no longer start a match.
  EXPECT_EQ(matcher.Push("c").text, "aac");
  EXPECT_EQ(matcher.Push("a").text, "");
  EXPECT_EQ(matcher.Finish(), "a");
}

TEST(StopMatcher, TheMatchThatIsCompleteFirstWins) {
  EXPECT_EQ(Match({"abcde", "bcd"}, {"abcde"}), (Outcome{"a", 1}));
  EXPECT_EQ(Match({"d", "bcd"}, {"abcd"}), (Outcome{"a", 1}));  // Both end there: the longer one.
}

TEST(StopMatcher, DoesNotDependOnHowTextIsCut) {
  std::mt19937 random(7);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  const auto word = [&](int length) {
    std::string text;
    for (int i = 0; i < length; ++i) text += static_cast<char>('a' + draw(0, 1));
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops;
    for (int i = draw(1, 3); i > 0; --i) stops.push_back(word(draw(2, 6)));
    const std::string text = word(draw(0, 20));
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min<size_t>(draw(1, 4), text.size() - at);
      pieces.push_back(text.substr(at, length));
      at += length;
    }
    const Outcome expected = Expected(stops, text);
    const Outcome got = Match(stops, pieces);
    ASSERT_EQ(got.text, expected.text) << text;
    // Equal strings in the list have different indices.
    ASSERT_EQ(got.matched < 0, expected.matched < 0);
    if (got.matched >= 0) {
      ++matches;
      ASSERT_EQ(stops[got.matched], stops[expected.matched]) << text;
    }
  }
  EXPECT_GT(matches, 500);
}

}  // namespace
}  // namespace lukv
