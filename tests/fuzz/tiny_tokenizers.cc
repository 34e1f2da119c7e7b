#include "tests/fuzz/tiny_tokenizers.h"

#include <vector>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "engine/model/gguf.h"

namespace lukv {
namespace {

enum GgufTokenType : int32_t { kNormal = 1, kControl = 3, kByte = 6 };

std::string Utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// GPT-2's printable stand-ins for bytes.
std::string StandIn(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  if (printable(byte)) return Utf8(byte);
  int hidden = 0;
  for (int b = 0; b < byte; ++b) hidden += printable(b) ? 0 : 1;
  return Utf8(256 + hidden);
}

}  // namespace

uint32_t AddTinyByteLevelTokens(GgufBuilder& builder) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(StandIn(byte));
  const std::string space = StandIn(' ');
  for (const std::string& piece : {std::string("ab"), std::string("abc"), space + "a", space + space}) {
    tokens.push_back(piece);
  }
  std::vector<int32_t> types(tokens.size(), kNormal);
  tokens.push_back("<e>");
  types.push_back(kControl);
  builder.AddString("tokenizer.ggml.model", "gpt2")
      .AddString("tokenizer.ggml.pre", "gpt-2")
      .AddStrings("tokenizer.ggml.tokens", tokens)
      .AddArray("tokenizer.ggml.token_type", types)
      .AddStrings("tokenizer.ggml.merges", {"a b", "ab c", space + " a", space + " " + space})
      .Add("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(tokens.size() - 1));
  return static_cast<uint32_t>(tokens.size());
}

std::string TinyByteLevelGguf() {
  GgufBuilder builder;
  AddTinyByteLevelTokens(builder);
  return builder.Build();
}

std::string TinySentencePieceGguf() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(absl::StrFormat("<0x%02X>", byte));
  std::vector<int32_t> types(tokens.size(), kByte);
  std::vector<float> scores(tokens.size(), 0.0f);
  const std::string space = "\xE2\x96\x81";  // U+2581
  float score = 0;
  for (const std::string& piece : {space, std::string("a"), std::string("b"), std::string("ab"), space + "a",
                                   space + space, std::string("\xC3\xA9")}) {
    tokens.push_back(piece);
    types.push_back(kNormal);
    scores.push_back(score -= 1);
  }
  tokens.push_back("<e>");
  types.push_back(kControl);
  scores.push_back(0);
  GgufBuilder builder;
  builder.AddString("tokenizer.ggml.model", "llama")
      .AddStrings("tokenizer.ggml.tokens", tokens)
      .AddArray("tokenizer.ggml.token_type", types)
      .AddArray("tokenizer.ggml.scores", scores)
      .Add("tokenizer.ggml.add_bos_token", false)
      .Add("tokenizer.ggml.add_space_prefix", false)
      .Add("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(tokens.size() - 1));
  return builder.Build();
}

std::unique_ptr<Tokenizer> TinyTokenizer(const std::string& gguf) {
  const auto file = GgufFile::Parse(gguf);
  LUKV_CHECK(file.ok());
  auto tokenizer = TokenizerFromGguf(**file);
  LUKV_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

}  // namespace lukv
