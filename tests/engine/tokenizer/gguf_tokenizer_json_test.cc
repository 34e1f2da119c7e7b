// The tokenizer.json that is made from a GGUF's metadata: the same ids for every golden string.
#include <nlohmann/json.hpp>
#include <string>

#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/goldens.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<TokenizerJsonFiles> Convert(GgufBuilder builder) {
  const std::string bytes = builder.Build();
  const auto file = GgufFile::Parse(bytes);
  LUKV_CHECK(file.ok());
  return TokenizerJsonOfGguf(**file);
}

nlohmann::json GoldenJson(const std::string& family) {
  return nlohmann::json::parse(ReadGolden(family + "/tokenizer.json"));
}

class GgufTokenizerJson : public testing::TestWithParam<const char*> {};

TEST_P(GgufTokenizerJson, EncodesAsTheGgufDoes) {
  const std::string family = GetParam();
  const std::string bytes = GgufOf(GoldenJson(family), family).Build();
  const auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file.ok());
  const auto original = TokenizerFromGguf(**file);
  ASSERT_TRUE(original.ok()) << original.status();
  const auto files = TokenizerJsonOfGguf(**file);
  ASSERT_TRUE(files.ok()) << files.status();
  TempFolder folder;
  folder.Write("tokenizer.json", files->tokenizer).Write("tokenizer_config.json", files->tokenizer_config);
  const auto converted = LoadTokenizer(folder.path());
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ((*converted)->bos(), (*original)->bos());
  EXPECT_EQ((*converted)->adds_bos(), (*original)->adds_bos());
  EXPECT_EQ((*converted)->vocabulary(), (*original)->vocabulary());
  for (const std::string& text : GoldenStrings()) {
    for (const bool special : {false, true}) {
      const auto ids = EncodeOne(**original, text, special, /*add_bos=*/true);
      ASSERT_EQ(EncodeOne(**converted, text, special, /*add_bos=*/true), ids) << text;
      ASSERT_EQ((*converted)->Decode(ids, special), (*original)->Decode(ids, special)) << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GgufTokenizerJson, testing::Values("gpt2", "llama-bpe", "qwen2", "sentencepiece"),
                         [](const auto& family) { return testing::PrintToString(family.index); });

// What the parts are called, for programs that know more of them than lukv.
TEST(GgufTokenizerJsonParts, AreThoseOfTheFamily) {
  const auto json = [](const char* family) {
    const auto files = Convert(GgufOf(GoldenJson(family), family));
    LUKV_CHECK(files.ok());
    return nlohmann::json::parse(files->tokenizer);
  };
  for (const char* family : {"llama-bpe", "qwen2"}) {
    const nlohmann::json made = json(family);
    const nlohmann::json golden = GoldenJson(family);
    EXPECT_EQ(made["pre_tokenizer"], golden["pre_tokenizer"]) << family;
    EXPECT_EQ(made["normalizer"], golden["normalizer"]) << family;
  }
  const nlohmann::json made = json("sentencepiece");
  const nlohmann::json golden = GoldenJson("sentencepiece");
  EXPECT_EQ(made["normalizer"], golden["normalizer"]);
  EXPECT_EQ(made["decoder"], golden["decoder"]);
  EXPECT_EQ(made["post_processor"], golden["post_processor"]);
  EXPECT_EQ(made["model"]["byte_fallback"], true);
  const auto& merges = golden["model"]["merges"];
  ASSERT_EQ(made["model"]["merges"].size(), merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    EXPECT_EQ(made["model"]["merges"][i], merges[i][0].get<std::string>() + " " + merges[i][1].get<std::string>());
  }
}

TEST(GgufTokenizerJsonParts, ConfigNamesTheSpecialTokens) {
  GgufBuilder builder = GgufOf(GoldenJson("qwen2"), "qwen2");
  builder.String("tokenizer.chat_template", "{{ x }}").Uint32("tokenizer.ggml.padding_token_id", 2501);
  const auto files = Convert(std::move(builder));
  ASSERT_TRUE(files.ok()) << files.status();
  const auto config = nlohmann::json::parse(files->tokenizer_config);
  EXPECT_EQ(config["chat_template"], "{{ x }}");
  EXPECT_EQ(config["pad_token"], "<|im_start|>");
  EXPECT_EQ(config["eos_token"], "<|endoftext|>");
  EXPECT_EQ(config["added_tokens_decoder"]["2502"]["content"], "<|im_end|>");
  EXPECT_EQ(config["added_tokens_decoder"]["2502"]["special"], true);
  EXPECT_EQ(config["added_tokens_decoder"]["2504"]["special"], false);
}

TEST(GgufTokenizerJsonParts, WhatJsonCannotSayIsRefused) {
  nlohmann::json json = GoldenJson("gpt2");
  GgufBuilder builder = GgufOf(json, "gpt2");
  builder.String("tokenizer.chat_template", "\xFF");
  const auto files = Convert(std::move(builder));
  EXPECT_EQ(files.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(files.status().message()), HasSubstr("chat template is not UTF-8"));
}

}  // namespace
}  // namespace lukv
