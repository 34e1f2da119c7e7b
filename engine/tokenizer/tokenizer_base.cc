#include "engine/tokenizer/tokenizer_base.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

// Longer texts would overflow the 32-bit positions that merging and ICU count in.
constexpr size_t kMaxTextBytes = std::numeric_limits<int32_t>::max() / 2;

}  // namespace

TokenizerBase::TokenizerBase(TokenizerData data, std::vector<std::string> pieces)
    : data_(std::move(data)), pieces_(std::move(pieces)), matcher_(data_) {
  LUKV_CHECK(pieces_.size() == data_.types.size());
}

absl::Status TokenizerBase::CheckIds(const TokenizerData& data) {
  const auto size = static_cast<TokenId>(data.tokens.size());
  if (data.tokens.empty()) return absl::InvalidArgumentError("the vocabulary is empty");
  if (data.types.size() != data.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", data.types.size(), " token types for ", size, " tokens"));
  }
  const auto check = [&](const char* name, TokenId id) {
    if (id >= 0 && id < size) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " id ", id, " is outside the vocabulary of ", size));
  };
  if (data.bos != -1) LUKV_RETURN_IF_ERROR(check("beginning-of-text", data.bos));
  if (data.adds_bos && data.bos == -1) {
    return absl::InvalidArgumentError("the tokenizer wants a beginning-of-text token but names none");
  }
  for (const TokenId id : data.end_tokens) LUKV_RETURN_IF_ERROR(check("end-of-text", id));
  for (const AddedToken& token : data.added) {
    LUKV_RETURN_IF_ERROR(check("added token", token.id));
    if (data.tokens[token.id].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("added token ", token.id, " is empty"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> TokenizerBase::Encode(std::span<const TextSegment> segments, bool add_bos) const {
  std::string joined;
  std::vector<std::pair<size_t, size_t>> special_ranges;  // [first, second), neighbours merged.
  size_t size = 0;
  for (const TextSegment& segment : segments) {
    if (segment.parse_special) {
      const bool extends = !special_ranges.empty() && special_ranges.back().second == size;
      if (!extends) special_ranges.emplace_back(size, size);
      special_ranges.back().second += segment.text.size();
    }
    size += segment.text.size();
    if (segments.size() > 1) joined += segment.text;
  }
  if (size > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", size, " bytes, at most ", kMaxTextBytes, " can be"));
  }
  Run run;
  if (add_bos && data_.adds_bos) run.ids.push_back(data_.bos);
  LUKV_RETURN_IF_ERROR(EncodeText(segments.size() == 1 ? segments[0].text : joined, special_ranges, run));
  return std::move(run.ids);
}

absl::Status TokenizerBase::EncodeText(std::string_view text, std::span<const std::pair<size_t, size_t>> special_ranges,
                                       Run& run) const {
  size_t done = 0;  // What is before is encoded.
  auto range = special_ranges.begin();
  for (size_t position = 0; position < text.size();) {
    while (range != special_ranges.end() && range->second <= position) ++range;
    const bool inside = range != special_ranges.end() && range->first <= position;
    const auto match = matcher_.At(text, position, inside ? range->second : 0);
    if (!match) {
      ++position;
      continue;
    }
    std::string_view before = text.substr(done, position - done);
    if (match->token->strip_left) before.remove_suffix(TrailingRun(before, IsSpace));
    if (!before.empty()) LUKV_RETURN_IF_ERROR(EncodeStretch(before, done, run));
    run.ids.push_back(match->token->id);
    position += match->length;
    if (match->token->strip_right) position += LeadingRun(text.substr(position), IsSpace);
    done = position;
  }
  if (done < text.size()) return EncodeStretch(text.substr(done), done, run);
  return absl::OkStatus();
}

void TokenizerBase::EncodeWord(std::string_view word, Run& run) const {
  const auto [it, is_new] = run.words.try_emplace(word);
  auto& [begin, end] = it->second;
  if (is_new) {
    begin = run.ids.size();
    run.symbols.clear();
    InitialSymbols(word, run.symbols);
    data_.merges.Merge(run.symbols, run.scratch);
    EmitSymbols(run.symbols, run.ids);
    end = run.ids.size();
  } else {
    const size_t old_size = run.ids.size();
    run.ids.resize(old_size + (end - begin));
    std::copy(run.ids.begin() + static_cast<ptrdiff_t>(begin), run.ids.begin() + static_cast<ptrdiff_t>(end),
              run.ids.begin() + static_cast<ptrdiff_t>(old_size));
  }
}

bool TokenizerBase::IsSpecial(TokenId id) const {
  if (id < 0 || id >= vocabulary()) return false;
  return data_.types[id] == TokenType::kControl || data_.types[id] == TokenType::kUnknown;
}

std::string TokenizerBase::Piece(TokenId id, bool special) const {
  if (id < 0 || id >= vocabulary() || (IsSpecial(id) && !special)) return "";
  return pieces_[id];
}

std::string TokenizerBase::Decode(std::span<const TokenId> ids, bool special) const {
  std::string text;
  for (const TokenId id : ids) text += Piece(id, special);
  return text;
}

}  // namespace lukv
