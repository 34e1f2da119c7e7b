// Wrong, damaged and hostile tokenizer files: an error that says what is wrong, never a crash.
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/goldens.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

using Json = nlohmann::json;
using absl::StatusCode;

absl::StatusOr<std::unique_ptr<Tokenizer>> FromGgufBytes(const std::string& bytes) {
  const auto file = GgufFile::Parse(bytes);
  if (!file.ok()) return file.status();
  return TokenizerFromGguf(**file);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromFiles(const std::vector<std::pair<std::string, std::string>>& files) {
  TempFolder folder;
  for (const auto& [name, contents] : files) folder.Write(name, contents);
  return LoadTokenizer(folder.path());
}

void ExpectStatus(const absl::Status& status, StatusCode code, const std::string& says) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(says));
  EXPECT_LT(status.message().size(), 1000u);
}

// A tokenizer that loaded must work, whatever it learned from a damaged file.
void Exercise(const Tokenizer& tokenizer) {
  for (const char* text :
       {"", "Hello, they'll 123  \n x", "\u5B57\U0001F600e\u0301", "\xFF\xE2\x82", "<|endoftext|> <tool> a"}) {
    const TextSegment segment{.text = text, .parse_special = true};
    const auto ids = tokenizer.Encode({&segment, 1}, true);
    if (!ids.ok()) continue;
    for (const TokenId id : *ids) ASSERT_TRUE(id >= 0 && id < tokenizer.vocabulary());
    tokenizer.Decode(*ids, true);
  }
}

// Pieces of the metadata of a small byte-level model; a test replaces one.
struct Parts {
  std::vector<std::string> tokens = {"a", "b", "c", "ab", "abc", "<e>"};
  std::vector<int32_t> types = {1, 1, 1, 1, 1, 3};
  std::vector<std::string> merges = {"a b", "ab c"};
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  uint32_t eos = 5;

  absl::StatusOr<std::unique_ptr<Tokenizer>> Load() const {
    return FromGgufBytes(GgufBuilder()
                             .String("tokenizer.ggml.model", model)
                             .String("tokenizer.ggml.pre", pre)
                             .Strings("tokenizer.ggml.tokens", tokens)
                             .Int32s("tokenizer.ggml.token_type", types)
                             .Strings("tokenizer.ggml.merges", merges)
                             .Uint32("tokenizer.ggml.eos_token_id", eos)
                             .Build());
  }
};

TEST(HostileGguf, ThePartsAreRight) {
  const auto tokenizer = Parts().Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(EncodeOne(**tokenizer, "abcab"), (std::vector<TokenId>{4, 3}));
}

TEST(HostileGguf, MergesThatMakeNoSense) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"a b", "a b"}, "merge 1 (\"a\", \"b\") is there twice"},
      {{"b c"}, "makes a token that is not in the vocabulary"},
      {{"a x"}, "has a part that is not in the vocabulary"},
      {{"ab"}, "not two tokens"},
      {{"a b c"}, "not two tokens"},
      {{" ab"}, "empty part"},
      {{"ab "}, "empty part"},
      {{""}, "not two tokens"},
      {{std::string(100000, 'a') + " b"}, "has a part"},
  };
  for (const auto& [merges, says] : cases) {
    Parts parts;
    parts.merges = merges;
    ExpectStatus(parts.Load().status(), StatusCode::kInvalidArgument, says);
  }
}

TEST(HostileGguf, VocabulariesThatMakeNoSense) {
  const std::pair<std::function<void(Parts&)>, std::string> cases[] = {
      {[](Parts& p) { p.tokens[3] = "a"; }, "tokens 0 and 3 of the vocabulary are both \"a\""},
      {[](Parts& p) { p.types.pop_back(); }, "token_type has 5 entries for 6 tokens"},
      {[](Parts& p) { p.types[2] = 0; }, "token_type of token 2 is 0"},
      {[](Parts& p) { p.types[2] = 7; }, "token_type of token 2 is 7"},
      {[](Parts& p) { p.types[2] = -1; }, "token_type of token 2 is -1"},
      {[](Parts& p) { p.eos = 6; }, "eos_token_id is 6, outside the vocabulary of 6"},
      {[](Parts& p) { p.eos = 0xFFFFFFFF; }, "outside the vocabulary"},
      {[](Parts& p) { p = {.tokens = {}, .types = {}, .merges = {}}; }, "outside the vocabulary of 0"},
  };
  for (const auto& [damage, says] : cases) {
    Parts parts;
    damage(parts);
    ExpectStatus(parts.Load().status(), StatusCode::kInvalidArgument, says);
  }
}

TEST(HostileGguf, WhatIsNotSupportedIsNamed) {
  Parts model;
  model.model = "bert";
  ExpectStatus(model.Load().status(), StatusCode::kUnimplemented, "tokenizer model \"bert\" is not supported");
  Parts pre;
  pre.pre = "deepseek-coder";
  ExpectStatus(pre.Load().status(), StatusCode::kUnimplemented, "pre-tokenizer \"deepseek-coder\" is not supported");
}

TEST(HostileGguf, MissingAndMistypedKeysAreNamed) {
  ExpectStatus(FromGgufBytes(GgufBuilder().Build()).status(), StatusCode::kNotFound, "tokenizer.ggml.model");
  GgufBuilder builder;
  builder.String("tokenizer.ggml.model", "gpt2");
  ExpectStatus(FromGgufBytes(builder.Build()).status(), StatusCode::kNotFound, "tokenizer.ggml.tokens");
  builder.Strings("tokenizer.ggml.tokens", {"a"});
  ExpectStatus(FromGgufBytes(builder.Build()).status(), StatusCode::kNotFound, "tokenizer.ggml.pre");
  builder.String("tokenizer.ggml.pre", "gpt-2");
  ExpectStatus(FromGgufBytes(builder.Build()).status(), StatusCode::kNotFound, "tokenizer.ggml.merges");
  builder.Uint32("tokenizer.ggml.merges", 3);
  ExpectStatus(FromGgufBytes(builder.Build()).status(), StatusCode::kInvalidArgument, "tokenizer.ggml.merges");
}

// SentencePiece: all byte tokens, two letters, their pair.
GgufBuilder SentencePieceGguf(const std::vector<float>& scores, const std::string& pair = "ab") {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
    types.push_back(6);
  }
  for (const std::string& token : {std::string("a"), std::string("b"), pair}) {
    tokens.push_back(token);
    types.push_back(1);
  }
  GgufBuilder builder;
  builder.String("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", tokens)
      .Int32s("tokenizer.ggml.token_type", types)
      .Floats("tokenizer.ggml.scores", scores)
      .Bool("tokenizer.ggml.add_bos_token", false)
      .Bool("tokenizer.ggml.add_space_prefix", false);
  return builder;
}

TEST(HostileGguf, SentencePieceVocabularies) {
  std::vector<float> scores(259, 0.0f);
  const auto good = FromGgufBytes(SentencePieceGguf(scores).Build());
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(EncodeOne(**good, "abc"), (std::vector<TokenId>{258, 'c'}));

  scores[256] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(FromGgufBytes(SentencePieceGguf(scores).Build()).ok());
  scores[256] = std::numeric_limits<float>::quiet_NaN();
  ExpectStatus(FromGgufBytes(SentencePieceGguf(scores).Build()).status(), StatusCode::kInvalidArgument,
               "score of token 256 is not a number");
  scores.assign(258, 0.0f);
  ExpectStatus(FromGgufBytes(SentencePieceGguf(scores).Build()).status(), StatusCode::kInvalidArgument,
               "258 scores for 259 tokens");
  scores.assign(259, 0.0f);
  ExpectStatus(FromGgufBytes(SentencePieceGguf(scores, "a\xFF").Build()).status(), StatusCode::kInvalidArgument,
               "token 258 of the vocabulary is not UTF-8");
  GgufBuilder no_bytes;
  no_bytes.String("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", {"a"})
      .Floats("tokenizer.ggml.scores", {0})
      .Bool("tokenizer.ggml.add_bos_token", false);
  ExpectStatus(FromGgufBytes(no_bytes.Build()).status(), StatusCode::kUnimplemented, "all 256 byte tokens");
  no_bytes.Int32s("tokenizer.ggml.token_type", {6});
  ExpectStatus(FromGgufBytes(no_bytes.Build()).status(), StatusCode::kInvalidArgument, "byte token 0 is \"a\"");
}

TEST(HostileJson, WhatIsWrongIsNamed) {
  struct Case {
    std::function<void(Json&)> damage;
    StatusCode code;
    std::string says;
  };
  const auto invalid = StatusCode::kInvalidArgument;
  const auto unsupported = StatusCode::kUnimplemented;
  const Case cases[] = {
      {[](Json& j) { j = Json::array(); }, invalid, "tokenizer.model is missing"},
      {[](Json& j) { j["model"] = 3; }, invalid, "tokenizer.model is 3, not an object"},
      {[](Json& j) { j["model"].erase("vocab"); }, invalid, "model.vocab is missing"},
      {[](Json& j) {
         j["model"]["vocab"] = Json::array({1, 2});
       },
       invalid, "model.vocab is an array of 2 entries"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 2147483647; }, invalid,
       "token \"zz\" has the id 2147483647, too high"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 18446744073709551615u; }, invalid, "not a whole number below 2^31"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = -1; }, invalid, "not a whole number"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 1.5; }, invalid, "not a whole number"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = "1"; }, invalid, "not a whole number"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 0; }, invalid, "have the same id 0"},
      {[](Json& j) { j["model"].erase("merges"); }, invalid, "model.merges is missing"},
      {[](Json& j) { j["model"]["merges"][1] = 7; }, invalid, "merge 1 is 7, not two tokens"},
      {[](Json& j) { j["model"]["merges"][1] = Json::array({"a"}); }, invalid, "merge 1 is an array of 1 entries"},
      {[](Json& j) { j["model"]["merges"][1] = j["model"]["merges"][0]; }, invalid, "is there twice"},
      {[](Json& j) { j["model"]["merges"][1] = "a b c"; }, invalid, "not two tokens"},
      {[](Json& j) { j["model"]["type"] = "WordPiece"; }, unsupported, "model type \"WordPiece\""},
      {[](Json& j) { j["model"]["type"] = nullptr; }, invalid, "model.type is missing"},
      {[](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, unsupported, "model.end_of_word_suffix \"</w>\""},
      {[](Json& j) { j["model"]["dropout"] = 0.1; }, unsupported, "model.dropout"},
      {[](Json& j) { j["model"]["ignore_merges"] = "yes"; }, invalid,
       "model.ignore_merges is \"yes\", not true or false"},
      {[](Json& j) { j["added_tokens"] = 1; }, invalid, "tokenizer.added_tokens is 1"},
      {[](Json& j) { j["added_tokens"][0].erase("id"); }, invalid, "an added token has no id"},
      {[](Json& j) { j["added_tokens"][0]["id"] = 1 << 30; }, invalid, "too high"},
      {[](Json& j) { j["added_tokens"][0]["id"] = 0; }, invalid, "have the same id 0"},
      {[](Json& j) { j["added_tokens"][0]["content"] = ""; }, invalid, "is empty"},
      {[](Json& j) { j["added_tokens"][0]["content"] = 5; }, invalid, "added token.content is 5, not a string"},
      {[](Json& j) { j["added_tokens"][0]["single_word"] = true; }, unsupported, "single_word"},
      {[](Json& j) { j["pre_tokenizer"] = nullptr; }, unsupported, "pre_tokenizer (none)"},
      {[](Json& j) { j["pre_tokenizer"] = 5; }, unsupported, "pre_tokenizer"},
      {[](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }, unsupported, "pre_tokenizer (ByteLevel)"},
      {[](Json& j) { j["pre_tokenizer"]["type"] = "Whitespace"; }, unsupported, "pre_tokenizer (Whitespace)"},
      {[](Json& j) {
         j["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
             {"type": "Split", "pattern": {"Regex": "\\d+"}, "behavior": "Isolated"},
             {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
       },
       unsupported, "Split \"\\\\d+\" + ByteLevel"},
      {[](Json& j) { j["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": 3})"); }, invalid,
       "pre_tokenizer.pretokenizers is 3, not an array"},
      {[](Json& j) {
         j["normalizer"] = Json{{"type", "Lowercase"}};
       },
       unsupported, "normalizer (Lowercase)"},
      {[](Json& j) {
         j["post_processor"] =
             Json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<q>"}}]})");
       },
       invalid, "post_processor is \"<q>\", which is not in the vocabulary"},
      {[](Json& j) { j["model"]["byte_fallback"] = true; }, unsupported, "normalizer and pre_tokenizer (ByteLevel)"},
  };
  for (const Case& test : cases) {
    Json json = TinyTokenizerJson();
    test.damage(json);
    const auto tokenizer = FromFiles({{"tokenizer.json", json.dump()}});
    SCOPED_TRACE(test.says);
    ExpectStatus(tokenizer.status(), test.code, test.says);
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("tokenizer.json: "));
  }
}

TEST(HostileJson, BadConfigsAreNamed) {
  const std::string tokenizer = TinyTokenizerJson().dump();
  const std::pair<std::string, std::string> configs[] = {
      {"[]", "not a JSON object"},
      {"{", "not JSON"},
      {R"({"bos_token": "<nope>"})", "bos_token is \"<nope>\", which is not in the vocabulary"},
      {R"({"eos_token": 3})", "tokenizer_config.eos_token is 3, not a string"},
      {R"({"eos_token": {"content": 3}})", "eos_token.content is 3, not a string"},
      {R"({"add_bos_token": 1})", "tokenizer_config.add_bos_token is 1, not true or false"},
      {R"({"chat_template": 1})", "tokenizer_config.chat_template is 1, not a string"},
      {R"({"chat_template": [1]})", "chat_template.name is missing"},
      {R"({"added_tokens_decoder": {"x": {}}})", "added_tokens_decoder has the id \"x\""},
      {R"({"added_tokens_decoder": {"99999999999": {}}})", "added_tokens_decoder has the id"},
      {R"({"added_tokens_decoder": {"2000000000": {"content": "z"}}})", "too high"},
  };
  for (const auto& [config, says] : configs) {
    const auto loaded = FromFiles({{"tokenizer.json", tokenizer}, {"tokenizer_config.json", config}});
    ExpectStatus(loaded.status(), StatusCode::kInvalidArgument, says);
  }
  const auto no_bos =
      FromFiles({{"tokenizer.json", tokenizer}, {"tokenizer_config.json", R"({"add_bos_token": true})"}});
  ExpectStatus(no_bos.status(), StatusCode::kInvalidArgument, "names none");
  for (const char* eos : {"\"x\"", "[1, -2]", "99999999", "{}", "[[1]]"}) {
    const auto loaded = FromFiles(
        {{"tokenizer.json", tokenizer}, {"generation_config.json", std::string(R"({"eos_token_id": )") + eos + "}"}});
    EXPECT_EQ(loaded.status().code(), StatusCode::kInvalidArgument) << eos;
  }
}

TEST(HostileJson, DepthDoesNoHarm) {
  constexpr size_t kDepth = 1 << 20;
  const std::string open(kDepth, '[');
  const std::string close(kDepth, ']');
  EXPECT_EQ(ParseTokenizerJson(open).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseTokenizerJson(open + close).status().code(), StatusCode::kInvalidArgument);
  const std::string nested = open + close;
  for (const char* key : {"model", "added_tokens", "pre_tokenizer", "normalizer", "post_processor"}) {
    Json json = TinyTokenizerJson();
    json[key] = "@";
    std::string text = json.dump();
    text.replace(text.find("\"@\""), 3, nested);
    EXPECT_FALSE(FromFiles({{"tokenizer.json", text}}).ok()) << key;
  }
  TokenizerData data;
  EXPECT_FALSE(AddEndTokens("{\"eos_token_id\":" + nested + "}", data).ok());
}

std::string Damaged(const std::string& bytes, std::mt19937& random) {
  std::string damaged = bytes;
  const int changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < changes && !damaged.empty(); ++i) {
    const size_t at = random() % damaged.size();
    switch (random() % 4) {
      case 0:
        damaged[at] = static_cast<char>(random());
        break;
      case 1:
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
        break;
      case 2:
        damaged.erase(at, 1 + random() % 8);
        break;
      default:
        damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 16));
        break;
    }
  }
  if (random() % 8 == 0) damaged.resize(random() % (damaged.size() + 1));
  return damaged;
}

// Loads what damage makes of `bytes`; some of it must fail and some of it load, or nothing was tested.
void LoadDamaged(const std::string& bytes, int rounds,
                 const std::function<absl::StatusOr<std::unique_ptr<Tokenizer>>(const std::string&)>& load) {
  std::mt19937 random(20240229);
  int loaded = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto tokenizer = load(Damaged(bytes, random));
    if (!tokenizer.ok()) continue;
    ++loaded;
    Exercise(**tokenizer);
  }
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, rounds);
}

TEST(Damage, Gguf) {
  LoadDamaged(GgufOf(TinyTokenizerJson(), "gpt-2").Build(), 2000, FromGgufBytes);
  LoadDamaged(SentencePieceGguf(std::vector<float>(259, 0.0f)).Build(), 2000, FromGgufBytes);
}

TEST(Damage, TokenizerJson) {
  LoadDamaged(TinyTokenizerJson().dump(), 1000, [](const std::string& bytes) {
    return FromFiles({{"tokenizer.json", bytes}});
  });
}

TEST(Damage, TokenizerModel) {
  const std::string model = ReadGolden("sentencepiece/tokenizer.model");
  LoadDamaged(model, 500, [](const std::string& bytes) { return FromFiles({{"tokenizer.model", bytes}}); });
  for (size_t length = 0; length < model.size(); length += 97) {
    EXPECT_FALSE(ParseSentencePieceModel(std::string_view(model).substr(0, length)).ok());
  }
}

TEST(HostileModel, WhatIsNotSupportedIsNamed) {
  // trainer_spec {model_type: UNIGRAM}
  ExpectStatus(ParseSentencePieceModel(std::string("\x12\x02\x18\x01", 4)).status(), StatusCode::kUnimplemented,
               "model type 1");
  // trainer_spec {model_type: BPE}, normalizer_spec {} with the library's default of removing spaces
  ExpectStatus(ParseSentencePieceModel(std::string("\x12\x02\x18\x02\x1A\x00", 6)).status(), StatusCode::kUnimplemented,
               "removes spaces");
  // A user-defined piece "\u2581x", which the text would hold with a space.
  ExpectStatus(ParseSentencePieceModel(std::string("\x0A\x08\x0A\x04\xE2\x96\x81x\x18\x04", 10)).status(),
               StatusCode::kUnimplemented, "user-defined piece 0");
  // A piece of an unknown type.
  ExpectStatus(ParseSentencePieceModel(std::string("\x0A\x05\x0A\x01x\x18\x09", 7)).status(),
               StatusCode::kInvalidArgument, "piece 0 has the unknown type 9");
  ExpectStatus(ParseSentencePieceModel("").status(), StatusCode::kInvalidArgument, "no trainer_spec");
  // A length past the end, a varint without end, a wire type that does not exist.
  for (const std::string& bytes : {std::string("\x0A\x7F", 2), std::string(20, '\xFF'), std::string("\x0B", 1)}) {
    ExpectStatus(ParseSentencePieceModel(bytes).status(), StatusCode::kInvalidArgument, "damaged");
  }
}

}  // namespace
}  // namespace lukv
