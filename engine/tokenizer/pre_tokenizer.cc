#include "engine/tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {
namespace {

// White space as the regular expressions of `tokenizers` (Oniguruma) see it: Unicode's White_Space. PCRE2's own \s
// would add U+180E.
#define LUKV_SPACE R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"

// The published patterns, rewritten so that they match the same but never backtrack further than by one character
// at the end of white space: possessive where nothing that follows can match a part, and "\s*[\r\n]+" as "\s*[\r\n]".
constexpr char kGpt2[] = R"('(?:s|t|re|ve|m|ll|d)| ?\p{L}++| ?\p{N}++| ?[^)" LUKV_SPACE R"(\p{L}\p{N}]++|[)" LUKV_SPACE
                         R"(]+(?![^)" LUKV_SPACE R"(])|[)" LUKV_SPACE R"(]++)";
// Every digit alone first, GPT-2's pattern on what is left: so white space before a digit ends a text.
constexpr char kSmolLm[] = R"('(?:s|t|re|ve|m|ll|d)| ?\p{L}++|\p{N}| ?[^)" LUKV_SPACE R"(\p{L}\p{N}]++|[)" LUKV_SPACE
                           R"(]+(?![^)" LUKV_SPACE R"(\p{N}])|[)" LUKV_SPACE R"(]++)";
#define LUKV_LLAMA3(digits)                                                                                       \
  R"((?i:'(?:s|t|re|ve|m|ll|d))|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N})" digits R"(| ?[^)" LUKV_SPACE                   \
  R"(\p{L}\p{N}]++[\r\n]*+|[)" LUKV_SPACE R"(]*[\r\n]|[)" LUKV_SPACE R"(]+(?![^)" LUKV_SPACE R"(])|[)" LUKV_SPACE \
  R"(]++)"
constexpr char kLlama3[] = LUKV_LLAMA3("{1,3}+");
constexpr char kQwen2[] = LUKV_LLAMA3("");

const char* Pattern(PreTokenizerKind kind) {
  switch (kind) {
    case PreTokenizerKind::kGpt2:
      return kGpt2;
    case PreTokenizerKind::kSmolLm:
      return kSmolLm;
    case PreTokenizerKind::kLlama3:
      return kLlama3;
    case PreTokenizerKind::kQwen2:
      return kQwen2;
  }
  LUKV_CHECK(false);
}

}  // namespace

std::optional<PreTokenizerKind> PreTokenizerByName(std::string_view name) {
  static constexpr std::pair<std::string_view, PreTokenizerKind> kNames[] = {
      {"default", PreTokenizerKind::kGpt2},
      {"gpt-2", PreTokenizerKind::kGpt2},
      {"gpt2", PreTokenizerKind::kGpt2},
      {"smollm", PreTokenizerKind::kSmolLm},
      {"llama-bpe", PreTokenizerKind::kLlama3},
      {"llama3", PreTokenizerKind::kLlama3},
      {"llama-v3", PreTokenizerKind::kLlama3},
      {"qwen2", PreTokenizerKind::kQwen2},
      {"deepseek-r1-qwen", PreTokenizerKind::kQwen2},
  };
  for (const auto& [known, kind] : kNames) {
    if (known == name) return kind;
  }
  return std::nullopt;
}

std::optional<PreTokenizerKind> PreTokenizerByPattern(std::string_view pattern) {
  for (const PreTokenizerKind kind : {PreTokenizerKind::kLlama3, PreTokenizerKind::kQwen2}) {
    if (pattern == PublishedPattern(kind)) return kind;
  }
  return std::nullopt;
}

std::string PublishedPattern(PreTokenizerKind kind) {
  const bool has_one = kind == PreTokenizerKind::kLlama3 || kind == PreTokenizerKind::kQwen2;
  if (!has_one) return "";
  return absl::StrCat(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})",
                      kind == PreTokenizerKind::kLlama3 ? "{1,3}" : "",
                      R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

const char* SupportedPreTokenizers() { return "gpt-2, smollm, llama-bpe (Llama 3), qwen2"; }

struct PreTokenizer::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

PreTokenizer::PreTokenizer(PreTokenizerKind kind) : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Anchored here and not at the match, because the JIT knows no anchoring at match time.
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(Pattern(kind)), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr);
  LUKV_CHECK(code_->code != nullptr);
  // Where the system forbids executable memory this fails, and pcre2_match interprets: the same result, slower.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

void PreTokenizer::Split(std::string_view text, absl::FunctionRef<void(std::string_view)> sink) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  &pcre2_match_data_free);
  LUKV_CHECK(match != nullptr);
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t start = 0; start < text.size(); start = range[1]) {
    const int found = pcre2_match(code_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    // Every character matches one of the alternatives, and never the empty string.
    LUKV_CHECK(found == 1 && range[1] > start);
    sink(text.substr(start, range[1] - start));
  }
}

}  // namespace lukv
