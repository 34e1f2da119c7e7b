// The goldens of tests/golden/tokenizer (made by make_goldens.py), and models made from them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/gguf_builder.h"

namespace lukv {

inline std::string GoldenPath(const std::string& name) {
  return std::string(LUKV_TEST_DATA) + "/golden/tokenizer/" + name;
}

inline std::string ReadGolden(const std::string& name) {
  std::ifstream file(GoldenPath(name), std::ios::binary);
  LUKV_CHECK(file.is_open());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline std::vector<nlohmann::json> ReadJsonLines(const std::string& name) {
  std::ifstream file(GoldenPath(name));
  LUKV_CHECK(file.is_open());
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline std::vector<std::string> GoldenStrings() {
  std::vector<std::string> strings;
  for (const nlohmann::json& line : ReadJsonLines("strings.jsonl")) strings.push_back(line.get<std::string>());
  return strings;
}

struct GoldenIds {
  std::vector<TokenId> plain;    // Special tokens are plain text.
  std::vector<TokenId> special;  // They are matched.
};

inline std::vector<GoldenIds> ReadGoldenIds(const std::string& family) {
  std::vector<GoldenIds> all;
  for (const nlohmann::json& line : ReadJsonLines(family + "/ids.jsonl")) {
    GoldenIds ids;
    ids.plain = line.at("plain").get<std::vector<TokenId>>();
    ids.special = line.value("special", ids.plain);
    all.push_back(std::move(ids));
  }
  return all;
}

inline std::vector<TokenId> EncodeOne(const Tokenizer& tokenizer, const std::string& text, bool parse_special = false,
                                      bool add_bos = false) {
  const TextSegment segment{.text = text, .parse_special = parse_special};
  const auto ids = tokenizer.Encode({&segment, 1}, add_bos);
  LUKV_CHECK(ids.ok());
  return *ids;
}

// A folder of files that is gone at the end of the test.
class TempFolder {
 public:
  TempFolder() : path_(testing::TempDir() + "lukv_" + std::to_string(std::random_device()())) {
    LUKV_CHECK(std::filesystem::create_directories(path_));
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  TempFolder& Write(const std::string& name, const std::string& contents) {
    std::ofstream(path_ / name, std::ios::binary) << contents;
    return *this;
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// The metadata that llama.cpp's converter would write for a tokenizer.json; `pre` names the pre-tokenizer.
inline GgufBuilder GgufOf(const nlohmann::json& tokenizer, const std::string& pre) {
  const nlohmann::json& model = tokenizer.at("model");
  const bool sentencepiece = model.value("byte_fallback", false);
  std::vector<std::string> tokens(model.at("vocab").size() + tokenizer.at("added_tokens").size());
  std::vector<int32_t> types(tokens.size(), 1);
  size_t size = 0;
  const auto set = [&](const std::string& text, size_t id, int32_t type) {
    tokens.at(id) = text;
    types.at(id) = type;
    size = std::max(size, id + 1);
  };
  for (const auto& [text, id] : model.at("vocab").items()) {
    set(text, id.get<size_t>(), sentencepiece && text.starts_with("<0x") ? 6 : 1);
  }
  for (const nlohmann::json& token : tokenizer.at("added_tokens")) {
    set(token.at("content").get<std::string>(), token.at("id").get<size_t>(), token.at("special").get<bool>() ? 3 : 4);
  }
  tokens.resize(size);
  types.resize(size);
  GgufBuilder builder;
  builder.String("tokenizer.ggml.model", sentencepiece ? "llama" : "gpt2")
      .String("tokenizer.ggml.pre", pre)
      .Strings("tokenizer.ggml.tokens", tokens)
      .Int32s("tokenizer.ggml.token_type", types);
  if (sentencepiece) {
    std::vector<float> scores;  // The trainer of SentencePiece's BPE numbers the pieces this way.
    for (size_t id = 0; id < size; ++id) scores.push_back(-static_cast<float>(id));
    builder.Floats("tokenizer.ggml.scores", scores).Uint32("tokenizer.ggml.bos_token_id", 1);
    return builder;
  }
  std::vector<std::string> merges;
  for (const nlohmann::json& merge : model.at("merges")) {
    merges.push_back(merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  builder.Strings("tokenizer.ggml.merges", merges).Uint32("tokenizer.ggml.bos_token_id", 0);
  return builder;
}

// gpt2's golden model cut down to bytes and a few merges: small enough to damage it often.
inline nlohmann::json TinyTokenizerJson() {
  nlohmann::json json = nlohmann::json::parse(ReadGolden("gpt2/tokenizer.json"));
  nlohmann::json& model = json["model"];
  const size_t first = model["vocab"].size() - model["merges"].size();  // Of what merges make.
  constexpr size_t kMerges = 20;
  nlohmann::json vocab = nlohmann::json::object();
  for (const auto& [text, id] : model["vocab"].items()) {
    if (id.get<size_t>() < first + kMerges) vocab[text] = id;
  }
  model["vocab"] = vocab;
  model["merges"].erase(model["merges"].begin() + kMerges, model["merges"].end());
  size_t next = first + kMerges;
  for (nlohmann::json& token : json["added_tokens"]) token["id"] = next++;
  return json;
}

}  // namespace lukv
