// What byte-level and SentencePiece tokenizers have in common: special tokens, the word cache, pieces.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_data.h"

namespace lukv {

class TokenizerBase : public Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment> segments, bool add_bos) const final;
  std::string Piece(TokenId id, bool special) const final;
  std::string Decode(std::span<const TokenId> ids, bool special) const override;

  int32_t vocabulary() const final { return static_cast<int32_t>(pieces_.size()); }
  TokenId bos() const final { return data_.bos; }
  const std::vector<TokenId>& end_tokens() const final { return data_.end_tokens; }
  bool IsSpecial(TokenId id) const final;
  bool adds_bos() const final { return data_.adds_bos; }
  const std::string& chat_template() const final { return data_.chat_template; }

 protected:
  // State of one Encode call.
  struct Run {
    std::vector<TokenId> ids;  // The result so far.
    // Words met before -> where their ids are in `ids`: [first, second).
    absl::flat_hash_map<std::string_view, std::pair<size_t, size_t>> words;
    std::deque<std::string> texts;  // Owns what `words` points to, where that is not the caller's text.
    std::vector<int32_t> symbols;
    MergeTable::Scratch scratch;
  };

  // `pieces` as Piece() gives them, by id.
  TokenizerBase(TokenizerData data, std::vector<std::string> pieces);

  // Checks that every id in `data` is in the vocabulary.
  static absl::Status CheckIds(const TokenizerData& data);

  // Appends the ids of a stretch of text without added tokens. `offset`: where it starts in the whole text.
  virtual absl::Status EncodeStretch(std::string_view text, size_t offset, Run& run) const = 0;
  // Appends the symbols that merging starts from, and the tokens of what merging leaves.
  virtual void InitialSymbols(std::string_view word, std::vector<int32_t>& symbols) const = 0;
  virtual void EmitSymbols(std::span<const int32_t> symbols, std::vector<TokenId>& ids) const = 0;

  // Appends the ids of `word`, which merges never leave. REQUIRES: `word` outlives `run`.
  void EncodeWord(std::string_view word, Run& run) const;

  const TokenizerData& data() const { return data_; }

 private:
  absl::Status EncodeText(std::string_view text, std::span<const std::pair<size_t, size_t>> special_ranges,
                          Run& run) const;

  const TokenizerData data_;
  const std::vector<std::string> pieces_;
  const AddedTokenMatcher matcher_;
};

}  // namespace lukv
