#include "engine/tokenizer/merge_table.h"

#include <map>
#include <optional>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace lukv {
namespace {

using Rules = std::map<std::pair<int32_t, int32_t>, std::pair<uint32_t, int32_t>>;  // pair -> rank, result

// The definition: again and again the best pair, the leftmost of equals.
std::vector<int32_t> MergeNaively(std::vector<int32_t> symbols, const Rules& rules) {
  while (true) {
    std::optional<std::tuple<uint32_t, size_t, int32_t>> best;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = rules.find({symbols[i], symbols[i + 1]});
      if (it == rules.end()) continue;
      const auto candidate = std::make_tuple(it->second.first, i, it->second.second);
      if (!best || candidate < *best) best = candidate;
    }
    if (!best) return symbols;
    symbols[std::get<1>(*best)] = std::get<2>(*best);
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(std::get<1>(*best)) + 1);
  }
}

// Any rules: results that are parts again, equal ranks, better ranks for later symbols, negative symbols.
TEST(MergeTable, MergesAsDefined) {
  std::mt19937 random(5);
  MergeTable::Scratch scratch;
  for (int round = 0; round < 500; ++round) {
    const int32_t symbols = 2 + static_cast<int32_t>(random() % 6);
    MergeTable table;
    Rules rules;
    for (int i = 0; i < 12; ++i) {
      const int32_t left = static_cast<int32_t>(random() % symbols) - 1;
      const int32_t right = static_cast<int32_t>(random() % symbols) - 1;
      const uint32_t rank = random() % 8;
      const int32_t result = static_cast<int32_t>(random() % (symbols + 2));
      const bool is_new = rules.try_emplace({left, right}, rank, result).second;
      EXPECT_EQ(table.Add(left, right, rank, result), is_new);
    }
    std::vector<int32_t> text(random() % 40);
    for (int32_t& symbol : text) symbol = static_cast<int32_t>(random() % symbols) - 1;
    std::vector<int32_t> merged = text;
    table.Merge(merged, scratch);
    EXPECT_EQ(merged, MergeNaively(text, rules));
  }
}

// Would take minutes if it were quadratic.
TEST(MergeTable, LongRunsMerge) {
  MergeTable table;
  for (int32_t i = 0; i < 3; ++i) table.Add(i, i, static_cast<uint32_t>(i), i + 1);
  std::vector<int32_t> symbols(1 << 20, 0);
  MergeTable::Scratch scratch;
  table.Merge(symbols, scratch);
  EXPECT_EQ(symbols, std::vector<int32_t>(1 << 17, 3));
}

}  // namespace
}  // namespace lukv
