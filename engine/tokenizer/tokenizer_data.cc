#include "engine/tokenizer/tokenizer_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

// Rank by score, the highest first; equal scores share a rank.
absl::StatusOr<std::vector<uint32_t>> RanksByScore(std::span<const float> scores) {
  std::vector<TokenId> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i]))
      return absl::InvalidArgumentError(absl::StrCat("score of token ", i, " is not a number"));
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return scores[a] > scores[b]; });
  std::vector<uint32_t> ranks(scores.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

// Part of a token that can stand on its own while merging.
std::optional<int32_t> SymbolOf(const TokenizerData& data, const VocabularyIndex& index, std::string_view text) {
  const auto it = index.find(text);
  if (it != index.end() && data.types[it->second] == TokenType::kNormal) return it->second;
  if (CodePointLength(text) == text.size()) return SymbolOfUnknown(DecodeCodePoint(text));
  return std::nullopt;
}

}  // namespace

absl::Status SetToken(TokenId id, std::string text, TokenType type, size_t entries, TokenizerData& data) {
  const size_t limit = 2 * entries + 65536;
  if (static_cast<size_t>(id) >= limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("token ", Quoted(text), " has the id ", id, ", too high for ", entries, " tokens"));
  }
  if (static_cast<size_t>(id) >= data.tokens.size()) {
    data.tokens.resize(static_cast<size_t>(id) + 1);
    data.types.resize(data.tokens.size(), TokenType::kUnused);
  }
  if (!data.tokens[id].empty() && data.tokens[id] != text) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens ", Quoted(data.tokens[id]), " and ", Quoted(text), " have the same id ", id));
  }
  data.tokens[id] = std::move(text);
  data.types[id] = type;
  return absl::OkStatus();
}

absl::StatusOr<TokenId> FindToken(const TokenizerData& data, std::string_view text, const char* what) {
  const auto it = std::find(data.tokens.begin(), data.tokens.end(), text);
  if (text.empty() || it == data.tokens.end()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is ", Quoted(text), ", which is not in the vocabulary"));
  }
  return static_cast<TokenId>(it - data.tokens.begin());
}

void AddEndToken(TokenId id, TokenizerData& data) {
  const bool is_new = std::find(data.end_tokens.begin(), data.end_tokens.end(), id) == data.end_tokens.end();
  if (is_new) data.end_tokens.push_back(id);
}

void CollectAddedTokens(TokenizerData& data) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const TokenType type = data.types[id];
    const bool added = type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUserDefined;
    if (added && !data.tokens[id].empty()) data.added.push_back({.id = static_cast<TokenId>(id)});
  }
}

absl::StatusOr<VocabularyIndex> IndexVocabulary(const TokenizerData& data) {
  VocabularyIndex index;
  index.reserve(data.tokens.size());
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.tokens[id].empty()) continue;
    const auto [it, is_new] = index.emplace(data.tokens[id], static_cast<TokenId>(id));
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokens ", it->second, " and ", id, " of the vocabulary are both ", Quoted(data.tokens[id])));
    }
  }
  return index;
}

absl::Status AddMerge(const VocabularyIndex& index, std::string_view left, std::string_view right, uint32_t rank,
                      TokenizerData& data) {
  const auto invalid = [&](const char* what) {
    return absl::InvalidArgumentError(
        absl::StrCat("merge ", rank, " (", Quoted(left), ", ", Quoted(right), ") ", what));
  };
  if (left.empty() || right.empty()) return invalid("has an empty part");
  std::string whole(left);
  whole += right;
  const auto left_it = index.find(left);
  const auto right_it = index.find(right);
  const auto whole_it = index.find(whole);
  if (left_it == index.end() || right_it == index.end()) return invalid("has a part that is not in the vocabulary");
  if (whole_it == index.end()) return invalid("makes a token that is not in the vocabulary");
  if (!data.merges.Add(left_it->second, right_it->second, rank, whole_it->second)) return invalid("is there twice");
  return absl::OkStatus();
}

absl::Status AddMerge(const VocabularyIndex& index, std::string_view pair, uint32_t rank, TokenizerData& data) {
  const size_t space = pair.find(' ');
  if (space == std::string_view::npos || pair.find(' ', space + 1) != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("merge ", rank, " is ", Quoted(pair), ", not two tokens with a space"));
  }
  return AddMerge(index, pair.substr(0, space), pair.substr(space + 1), rank, data);
}

absl::Status AddMergesByScore(const VocabularyIndex& index, std::span<const float> scores, TokenizerData& data) {
  if (scores.size() != data.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", scores.size(), " scores for ", data.tokens.size(), " tokens"));
  }
  LUKV_ASSIGN_OR_RETURN(const std::vector<uint32_t> ranks, RanksByScore(scores));
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != TokenType::kNormal) continue;
    const std::string_view token = data.tokens[id];
    if (ValidUtf8Prefix(token) != token.size()) {
      return absl::InvalidArgumentError(absl::StrCat("token ", id, " of the vocabulary is not UTF-8"));
    }
    for (size_t cut = 0; cut < token.size();) {
      cut += CodePointLength(token.substr(cut));
      if (cut == token.size()) break;
      const std::optional<int32_t> left = SymbolOf(data, index, token.substr(0, cut));
      const std::optional<int32_t> right = SymbolOf(data, index, token.substr(cut));
      // Texts are unique in the index, so no pair can have a rule already.
      if (left && right) data.merges.Add(*left, *right, ranks[id], static_cast<int32_t>(id));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data) {
  return data.kind == TokenizerKind::kByteLevel ? MakeByteLevelTokenizer(std::move(data))
                                                : MakeSentencePieceTokenizer(std::move(data));
}

}  // namespace lukv
