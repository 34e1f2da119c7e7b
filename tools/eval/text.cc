#include "tools/eval/text.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/checked_json.h"
#include "engine/tokenizer/json_fields.h"
#include "tools/eval/json_strings.h"

namespace lukv {
namespace {

absl::StatusOr<std::vector<std::string>> ReadWords(const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty());
  if (words.size() < 2) return absl::InvalidArgumentError(StrCat(path, ": fewer than two words"));
  return words;
}

absl::StatusOr<Essay> ReadEssay(const std::filesystem::path& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path.string()));
  Essay essay{.title = path.stem().string(), .paragraphs = {}};
  for (std::string paragraph : std::vector<std::string>(absl::StrSplit(text, "\n\n"))) {
    absl::StripAsciiWhitespace(&paragraph);
    if (!paragraph.empty()) essay.paragraphs.push_back(std::move(paragraph));
  }
  if (essay.paragraphs.empty()) return absl::InvalidArgumentError(StrCat(path.string(), ": is empty"));
  return essay;
}

// In the order of their names, so that the same folder is the same text everywhere.
absl::StatusOr<std::vector<Essay>> ReadEssays(const std::string& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".txt") paths.push_back(it->path());
  }
  if (error || paths.empty()) return absl::NotFoundError(StrCat(folder, ": no essays (*.txt) there"));
  std::sort(paths.begin(), paths.end());
  std::vector<Essay> essays;
  for (const std::filesystem::path& path : paths) {
    LUKV_ASSIGN_OR_RETURN(Essay essay, ReadEssay(path));
    essays.push_back(std::move(essay));
  }
  return essays;
}

absl::StatusOr<nlohmann::json> ReadJsonList(const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  absl::StatusOr<nlohmann::json> json = ParseCheckedJson(text);
  if (!json.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", json.status().message()));
  if (!json->is_array() || json->empty()) return absl::InvalidArgumentError(StrCat(path, ": not a list"));
  return json;
}

absl::StatusOr<std::vector<Passage>> ReadPassages(const std::string& path) {
  const char* const where = path.c_str();
  LUKV_ASSIGN_OR_RETURN(const nlohmann::json list, ReadJsonList(path));
  std::vector<Passage> passages;
  for (const nlohmann::json& item : list) {
    Passage& passage = passages.emplace_back();
    LUKV_ASSIGN_OR_RETURN(passage.title, GetString(item, "title", where));
    LUKV_ASSIGN_OR_RETURN(passage.text, GetString(item, "text", where));
    LUKV_ASSIGN_OR_RETURN(passage.question, GetString(item, "question", where));
    LUKV_ASSIGN_OR_RETURN(passage.answers, GetStrings(item, "answers", where));
  }
  return passages;
}

absl::StatusOr<std::vector<TwoHopQuestion>> ReadTwoHop(const std::string& path, const std::vector<Passage>& passages) {
  std::unordered_map<std::string, size_t> by_title;
  for (size_t i = 0; i < passages.size(); ++i) by_title.emplace(passages[i].title, i);
  const char* const where = path.c_str();
  LUKV_ASSIGN_OR_RETURN(const nlohmann::json list, ReadJsonList(path));
  std::vector<TwoHopQuestion> questions;
  for (const nlohmann::json& item : list) {
    TwoHopQuestion& question = questions.emplace_back();
    LUKV_ASSIGN_OR_RETURN(question.question, GetString(item, "question", where));
    LUKV_ASSIGN_OR_RETURN(question.answers, GetStrings(item, "answers", where));
    LUKV_ASSIGN_OR_RETURN(const std::vector<std::string> titles, GetStrings(item, "passages", where));
    for (const std::string& title : titles) {
      const auto found = by_title.find(title);
      if (found == by_title.end()) return absl::InvalidArgumentError(StrCat(path, ": no passage ", Quoted(title)));
      question.passages.push_back(found->second);
    }
  }
  return questions;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  constexpr size_t kMostBytes = size_t{256} << 20;
  return ReadWholeFile(path, kMostBytes);
}

std::vector<std::string> SplitSentences(std::string_view text) {
  std::vector<std::string> sentences;
  std::string sentence;
  const auto finish = [&] {
    if (!sentence.empty()) sentences.push_back(std::move(sentence));
    sentence.clear();
  };
  bool space = false;
  for (const char c : text) {
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) {
      space = true;
      continue;
    }
    if (space && !sentence.empty()) {
      const char last = sentence.back();
      if (last == '.' || last == '?' || last == '!') {
        finish();
      } else {
        sentence += ' ';
      }
    }
    space = false;
    sentence += c;
  }
  finish();
  return sentences;
}

absl::StatusOr<EvalText> LoadEvalText(const std::string& folder) {
  EvalText text;
  LUKV_ASSIGN_OR_RETURN(text.essays, ReadEssays(folder + "/essays"));
  for (const Essay& essay : text.essays) {
    text.essay_starts.push_back(text.essay_sentences.size());
    for (const std::string& paragraph : essay.paragraphs) {
      for (std::string& sentence : SplitSentences(paragraph)) text.essay_sentences.push_back(std::move(sentence));
    }
  }
  LUKV_ASSIGN_OR_RETURN(const std::string noise, ReadTextFile(folder + "/noise.txt"));
  text.noise = absl::StrJoin(SplitSentences(noise), " ");
  if (text.noise.empty()) return absl::InvalidArgumentError(StrCat(folder, "/noise.txt: is empty"));
  LUKV_ASSIGN_OR_RETURN(text.adjectives, ReadWords(folder + "/adjectives.txt"));
  LUKV_ASSIGN_OR_RETURN(text.nouns, ReadWords(folder + "/nouns.txt"));
  LUKV_ASSIGN_OR_RETURN(text.passages, ReadPassages(folder + "/passages.json"));
  LUKV_ASSIGN_OR_RETURN(text.chronicle, ReadTextFile(folder + "/chronicle.txt"));
  LUKV_ASSIGN_OR_RETURN(text.two_hop, ReadTwoHop(folder + "/two_hop.json", text.passages));
  return text;
}

}  // namespace lukv
