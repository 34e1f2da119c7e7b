// Cuts text into the stretches ("pre-tokens") that byte-level BPE never merges across.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"

namespace lukv {

enum class PreTokenizerKind : uint8_t { kGpt2, kSmolLm, kLlama3, kQwen2 };

// By the names that llama.cpp writes into tokenizer.ggml.pre.
std::optional<PreTokenizerKind> PreTokenizerByName(std::string_view name);
// By the pattern of a tokenizer.json's Split; GPT-2's and SmolLM's have none.
std::optional<PreTokenizerKind> PreTokenizerByPattern(std::string_view pattern);
// That pattern, "" for those two.
std::string PublishedPattern(PreTokenizerKind kind);
// For messages: what the two functions know.
const char* SupportedPreTokenizers();

// Immutable; safe to use from any thread.
class PreTokenizer {
 public:
  explicit PreTokenizer(PreTokenizerKind kind);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // Calls `sink` with each pre-token, in order; together they are `text`. REQUIRES: valid UTF-8.
  void Split(std::string_view text, absl::FunctionRef<void(std::string_view)> sink) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace lukv
