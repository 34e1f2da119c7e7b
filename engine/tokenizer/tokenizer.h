// Text <-> token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lukv {

class GgufFile;

using TokenId = int32_t;

// A stretch of a prompt. Neighbouring stretches are tokenized as one text (a merge may cross the border), but special
// tokens ("<|im_end|>") written out in the text are matched only where they lie wholly inside stretches with
// parse_special; elsewhere they are plain text, as a user's words must be.
struct TextSegment {
  std::string text;
  bool parse_special = false;
};

// Immutable; safe to use from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Never fails for valid UTF-8; bytes that are not UTF-8 are encoded byte by byte where the vocabulary can, else
  // INVALID_ARGUMENT with the offset.
  // `add_bos` puts the model's beginning-of-text token in front, if the model has and wants one (adds_bos()).
  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment> segments, bool add_bos) const = 0;

  // The bytes of one token as it appears inside running text; may be half a code point. Special tokens give their
  // written form if `special`, else nothing. Ids without a piece give "": models pad their vocabularies beyond the
  // tokenizer's.
  virtual std::string Piece(TokenId id, bool special) const = 0;

  // Piece() joined, without what the tokenizer put in front of the text itself (SentencePiece's leading space).
  virtual std::string Decode(std::span<const TokenId> ids, bool special) const = 0;

  virtual int32_t vocabulary() const = 0;
  virtual TokenId bos() const = 0;                             // -1: none.
  virtual const std::vector<TokenId>& end_tokens() const = 0;  // Any of these ends a generation (eos, eot, eom).
  virtual bool IsSpecial(TokenId id) const = 0;
  virtual bool adds_bos() const = 0;
  // The model's own chat template text (Jinja), empty if none.
  virtual const std::string& chat_template() const = 0;
};

// `path` as in OpenWeights: the GGUF's metadata, or the folder's tokenizer.json (else tokenizer.model) with
// tokenizer_config.json. UNIMPLEMENTED names a pre-tokenizer or model type that is not supported.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromGguf(const GgufFile& file);

// Turns a stream of tokens into text that never ends inside a UTF-8 code point. One per generated sequence. A leading
// space stays, as the sequence continues a prompt. Bytes that cannot become UTF-8 give U+FFFD at once.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false);
  // Text that is complete after this token; may be empty.
  std::string Push(TokenId id);
  // What is left at the end; an unfinished code point becomes U+FFFD.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  bool special_;
  std::string pending_;
};

}  // namespace lukv
