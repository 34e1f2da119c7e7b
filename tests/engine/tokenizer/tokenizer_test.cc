// What the tokenizer promises beyond the ids of ordinary text.
#include "engine/tokenizer/tokenizer.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/model/gguf.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/goldens.h"

namespace lukv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Json = nlohmann::json;

// From a folder with the golden family's tokenizer.json and more files.
std::unique_ptr<Tokenizer> FromFolder(const std::string& family,
                                      const std::vector<std::pair<std::string, std::string>>& more = {}) {
  TempFolder folder;
  folder.Write("tokenizer.json", ReadGolden(family + "/tokenizer.json"));
  for (const auto& [name, contents] : more) folder.Write(name, contents);
  auto tokenizer = LoadTokenizer(folder.path());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::unique_ptr<Tokenizer> FromGguf(const GgufBuilder& builder) {
  const std::string bytes = builder.Build();
  const auto file = GgufFile::Parse(bytes);
  EXPECT_TRUE(file.ok()) << file.status();
  auto tokenizer = TokenizerFromGguf(**file);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

Json GoldenJson(const std::string& family) { return Json::parse(ReadGolden(family + "/tokenizer.json")); }

std::vector<TokenId> EncodeSegments(const Tokenizer& tokenizer, const std::vector<TextSegment>& segments) {
  const auto ids = tokenizer.Encode(segments, false);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<TokenId>{});
}

TokenId Special(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<TokenId> ids = EncodeOne(tokenizer, text, true);
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_TRUE(tokenizer.IsSpecial(ids.at(0)));
  return ids.at(0);
}

TEST(Segments, SpecialTokensOnlyWhereAllowed) {
  const auto tokenizer = FromFolder("qwen2");
  const TokenId end = Special(*tokenizer, "<|im_end|>");
  const std::vector<TokenId> mixed =
      EncodeSegments(*tokenizer, {{"<|im_end|>", true}, {"<|im_end|>", false}, {"<|im_end|>", true}});
  std::vector<TokenId> expected = {end};
  for (const TokenId id : EncodeOne(*tokenizer, "<|im_end|>")) expected.push_back(id);
  expected.push_back(end);
  EXPECT_EQ(mixed, expected);
  // Half inside is outside; the words are those of the plain text.
  EXPECT_EQ(EncodeSegments(*tokenizer, {{"<|im_", true}, {"end|>", false}}), EncodeOne(*tokenizer, "<|im_end|>"));
  EXPECT_EQ(EncodeSegments(*tokenizer, {{"<|im_", false}, {"end|>", true}}), EncodeOne(*tokenizer, "<|im_end|>"));
  // Neighbours that both allow it are one stretch.
  EXPECT_EQ(EncodeSegments(*tokenizer, {{"<|im_", true}, {"", false}, {"end|>", true}}), std::vector<TokenId>{end});
}

TEST(Segments, AreOneText) {
  const auto tokenizer = FromFolder("gpt2");
  const std::string text = "Gr\u00F6\u00DFe, they'll say";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(EncodeSegments(*tokenizer, {{text.substr(0, cut), false}, {text.substr(cut), true}}),
              EncodeOne(*tokenizer, text));
  }
  EXPECT_TRUE(EncodeSegments(*tokenizer, {}).empty());
}

TEST(AddedTokens, UserDefinedOnesMatchEverywhere) {
  const auto tokenizer = FromFolder("qwen2");
  const std::vector<TokenId> ids = EncodeOne(*tokenizer, "<tool_call>");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_FALSE(tokenizer->IsSpecial(ids[0]));
  EXPECT_EQ(tokenizer->Piece(ids[0], false), "<tool_call>");
}

TEST(AddedTokens, StripWhiteSpaceOnTheSidesTheyName) {
  Json json = GoldenJson("gpt2");
  for (Json& token : json["added_tokens"]) {
    if (token["content"] == "<tool>") token["lstrip"] = true;
  }
  TempFolder folder;
  folder.Write("tokenizer.json", json.dump());
  const auto tokenizer = LoadTokenizer(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(EncodeOne(**tokenizer, "a \u3000<tool>\n b"), EncodeOne(**tokenizer, "a<tool>b"));
  EXPECT_EQ(EncodeOne(**tokenizer, " <tool> <tool>"), EncodeOne(**tokenizer, "<tool><tool>"));
}

TEST(InvalidUtf8, IsEncodedByteByByte) {
  for (const char* family : {"gpt2", "qwen2", "sentencepiece"}) {
    const auto tokenizer = FromFolder(family);
    for (const std::string text : {"\xFF", "ab\xE2\x82 c", "\xC3\xA9\xC3", "\xED\xA0\x80x", "\xF0\x9F\x98\x80\x80"}) {
      const std::vector<TokenId> ids = EncodeOne(*tokenizer, text);
      EXPECT_EQ(tokenizer->Decode(ids, false), text) << family;
    }
    const std::vector<TokenId> ids = EncodeOne(*tokenizer, "a\xE2\x82");
    ASSERT_GE(ids.size(), 3u);
    EXPECT_EQ(tokenizer->Piece(ids[ids.size() - 2], false), "\xE2") << family;
    EXPECT_EQ(tokenizer->Piece(ids[ids.size() - 1], false), "\x82") << family;
  }
}

TEST(Bos, ComesFromThePostProcessor) {
  const auto llama = FromFolder("llama-bpe");
  EXPECT_TRUE(llama->adds_bos());
  EXPECT_EQ(EncodeOne(*llama, "", false, true), std::vector<TokenId>{llama->bos()});
  EXPECT_EQ(llama->Piece(llama->bos(), true), "<|begin_of_text|>");
  const auto gpt2 = FromFolder("gpt2");
  EXPECT_FALSE(gpt2->adds_bos());
  EXPECT_EQ(gpt2->bos(), -1);
  EXPECT_EQ(EncodeOne(*gpt2, "x", false, true), EncodeOne(*gpt2, "x"));
}

TEST(Bos, TheConfigHasTheLastWord) {
  const auto off = FromFolder("llama-bpe", {{"tokenizer_config.json", R"({"add_bos_token": false})"}});
  EXPECT_FALSE(off->adds_bos());
  const auto on = FromFolder(
      "gpt2", {{"tokenizer_config.json", R"({"add_bos_token": true, "bos_token": {"content": "<|endoftext|>"}})"}});
  EXPECT_TRUE(on->adds_bos());
  EXPECT_EQ(on->bos(), Special(*on, "<|endoftext|>"));
}

TEST(EndTokens, ComeFromAllFilesThatNameThem) {
  const auto tokenizer = FromFolder("qwen2", {{"tokenizer_config.json", R"({"eos_token": "<|im_end|>"})"},
                                              {"generation_config.json", R"({"eos_token_id": [3, 5]})"},
                                              {"config.json", R"({"eos_token_id": 7})"}});
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(Special(*tokenizer, "<|im_end|>"), 3, 5));
  const auto older = FromFolder("qwen2", {{"config.json", R"({"eos_token_id": 7})"}});
  EXPECT_THAT(older->end_tokens(), ElementsAre(7));
}

TEST(ChatTemplateText, StandsInOneOfThreePlaces) {
  const std::string config = R"({"chat_template": "one"})";
  const std::string list = R"({"chat_template": [{"name": "tool_use", "template": "t"},
                                                 {"name": "default", "template": "two"}]})";
  EXPECT_EQ(FromFolder("gpt2")->chat_template(), "");
  EXPECT_EQ(FromFolder("gpt2", {{"tokenizer_config.json", config}})->chat_template(), "one");
  EXPECT_EQ(FromFolder("gpt2", {{"tokenizer_config.json", list}})->chat_template(), "two");
  EXPECT_EQ(FromFolder("gpt2", {{"tokenizer_config.json", config}, {"chat_template.jinja", "three"}})->chat_template(),
            "three");
}

TEST(AddedTokensDecoder, ExtendsTheVocabulary) {
  TempFolder folder;
  folder.Write("tokenizer.model", ReadGolden("sentencepiece/tokenizer.model"));
  folder.Write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"2000": {"content": "<|im_start|>", "special": true}}})");
  const auto tokenizer = LoadTokenizer(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocabulary(), 2001);
  EXPECT_EQ(EncodeOne(**tokenizer, "<|im_start|>", true), std::vector<TokenId>{2000});
  EXPECT_TRUE((*tokenizer)->adds_bos());
  EXPECT_EQ((*tokenizer)->bos(), 1);
  EXPECT_THAT((*tokenizer)->end_tokens(), ElementsAre(2));
}

TEST(Pieces, IdsOutsideTheVocabularyHaveNone) {
  const auto tokenizer = FromFolder("gpt2");
  EXPECT_EQ(tokenizer->Piece(-1, true), "");
  EXPECT_EQ(tokenizer->Piece(tokenizer->vocabulary(), true), "");
  EXPECT_FALSE(tokenizer->IsSpecial(tokenizer->vocabulary()));
  const std::vector<TokenId> ids = {tokenizer->vocabulary() + 7};
  EXPECT_EQ(tokenizer->Decode(ids, true), "");
}

TEST(SentencePiece, DecodeTakesTheAddedSpaceAndPieceDoesNot) {
  const auto tokenizer = FromFolder("sentencepiece");
  const std::vector<TokenId> ids = EncodeOne(*tokenizer, "quick brown");
  EXPECT_EQ(tokenizer->Decode(ids, false), "quick brown");
  std::string pieces;
  StreamDecoder decoder(*tokenizer);
  for (const TokenId id : ids) pieces += decoder.Push(id);
  EXPECT_EQ(pieces + decoder.Finish(), " quick brown");
}

TEST(SentencePiece, NoSpaceInFrontIfTheFileSaysSo) {
  GgufBuilder builder = GgufOf(GoldenJson("sentencepiece"), "default");
  const auto with = FromGguf(builder);
  const auto without = FromGguf(builder.Bool("tokenizer.ggml.add_space_prefix", false));
  EXPECT_EQ(EncodeOne(*without, " quick"), EncodeOne(*with, "quick"));
  EXPECT_EQ(without->Decode(EncodeOne(*without, " quick"), false), " quick");
}

TEST(SentencePiece, MetaspaceAlwaysPutsOneSpaceInEachStretch) {
  Json json = GoldenJson("metaspace");
  json["pre_tokenizer"]["prepend_scheme"] = "always";
  TempFolder folder;
  folder.Write("tokenizer.json", json.dump());
  const auto tokenizer = LoadTokenizer(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(EncodeOne(**tokenizer, "<s>quick", true), EncodeOne(**tokenizer, "<s> quick", true));
  const auto first = FromFolder("metaspace");
  EXPECT_NE(EncodeOne(*first, "<s>quick", true), EncodeOne(*first, "<s> quick", true));
}

TEST(Gguf, NamesItsSpecialTokens) {
  GgufBuilder builder = GgufOf(GoldenJson("llama-bpe"), "llama3");
  builder.Uint32("tokenizer.ggml.eos_token_id", 9).Uint32("tokenizer.ggml.eot_token_id", 11);
  builder.Uint32("tokenizer.ggml.eom_token_id", 9).String("tokenizer.chat_template", "tpl");
  const auto tokenizer = FromGguf(builder);
  EXPECT_TRUE(tokenizer->adds_bos());  // Llama 3 wants one though the file does not say so.
  EXPECT_EQ(tokenizer->bos(), 0);
  EXPECT_EQ(tokenizer->chat_template(), "tpl");
  // And those that are known by their text.
  EXPECT_THAT(tokenizer->end_tokens(),
              ElementsAre(9, 11, Special(*tokenizer, "<|end_of_text|>"), Special(*tokenizer, "<|eot_id|>")));
}

// Much of what makes merging or matching slow where it is not linear, and JIT stacks overflow where it recurses.
TEST(LongTexts, RoundTrip) {
  for (const char* family : {"gpt2", "llama-bpe", "qwen2", "sentencepiece"}) {
    const auto tokenizer = FromFolder(family);
    for (const char* unit : {"a", " ", "\n", " \n", "7", "!", "\u5B57", "'s", "\t a", "<|", "\u00A0"}) {
      std::string text;
      while (text.size() < 1 << 17) text += unit;
      EXPECT_EQ(tokenizer->Decode(EncodeOne(*tokenizer, text, true), true), text) << family << " \"" << unit << "\"";
    }
  }
}

TEST(Load, SaysWhatIsMissing) {
  TempFolder folder;
  const auto empty = LoadTokenizer(folder.path());
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("tokenizer.json"));
  EXPECT_EQ(LoadTokenizer(folder.path() + "/none.gguf").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lukv
