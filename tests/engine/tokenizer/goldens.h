// The goldens of tests/golden/tokenizer (made by make_goldens.py).
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

inline std::string GoldenPath(const std::string& name) {
  return std::string(LUKV_TEST_DATA) + "/golden/tokenizer/" + name;
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

}  // namespace lukv
