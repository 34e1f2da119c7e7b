#include "tools/eval/text_metrics.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

// Code points; a byte that is not UTF-8 is one, beyond all of Unicode's.
std::vector<char32_t> CodePoints(std::string_view text) {
  std::vector<char32_t> points;
  while (!text.empty()) {
    const size_t length = CodePointLength(text);
    points.push_back(length > 0 ? DecodeCodePoint(text) : 0x110000 + static_cast<unsigned char>(text.front()));
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return points;
}

// At white space, as Python's str.split().
std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words(1);
  while (!text.empty()) {
    const size_t length = CodePointLength(text);
    if (length > 0 && IsPythonSpace(DecodeCodePoint(text))) {
      if (!words.back().empty()) words.emplace_back();
    } else {
      words.back() += text.substr(0, std::max<size_t>(length, 1));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// Row i of the lengths of common subsequences from row i - 1: row[j] is for the first i and b's first j items.
template <typename T>
void NextRow(const T& item, const std::vector<T>& b, const std::vector<int32_t>& above, std::vector<int32_t>& row) {
  for (size_t j = 1; j <= b.size(); ++j) row[j] = item == b[j - 1] ? above[j - 1] + 1 : std::max(above[j], row[j - 1]);
}

// Of the longest common subsequence.
int32_t CommonLength(const std::vector<char32_t>& a, const std::vector<char32_t>& b) {
  std::vector<int32_t> above(b.size() + 1, 0), row = above;
  for (const char32_t item : a) {
    NextRow(item, b, above, row);
    above.swap(row);
  }
  return above.back();
}

// One longest common subsequence; where there are several, the one that the package finds.
std::vector<std::string> CommonWords(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::vector<int32_t>> lengths(a.size() + 1, std::vector<int32_t>(b.size() + 1, 0));
  for (size_t i = 1; i <= a.size(); ++i) NextRow(a[i - 1], b, lengths[i - 1], lengths[i]);
  std::vector<std::string> words;
  size_t i = a.size(), j = b.size();
  while (i > 0 && j > 0) {
    if (a[i - 1] == b[j - 1]) {
      words.push_back(a[i - 1]);
      --i, --j;
    } else if (lengths[i - 1][j] > lengths[i][j - 1]) {
      --i;
    } else {
      --j;
    }
  }
  return words;
}

// A piece of white space between two '.' is a sentence too, of one empty word: so the package has it.
std::vector<std::vector<std::string>> Sentences(std::string_view text) {
  std::vector<std::vector<std::string>> sentences;
  while (!text.empty()) {
    const size_t end = std::min(text.find('.'), text.size());
    if (end > 0) {
      sentences.push_back(Words(text.substr(0, end)));
      if (sentences.back().empty()) sentences.back().emplace_back();
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return sentences;
}

std::set<std::string> WordSet(const std::vector<std::vector<std::string>>& sentences) {
  std::set<std::string> words;
  for (const auto& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return words;
}

// Runs of digits.
std::vector<std::string> Numbers(std::string_view text) {
  std::vector<std::string> numbers;
  bool inside = false;
  for (const char c : text) {
    const bool digit = absl::ascii_isdigit(static_cast<unsigned char>(c));
    if (digit && !inside) numbers.emplace_back();
    if (digit) numbers.back() += c;
    inside = digit;
  }
  return numbers;
}

}  // namespace

std::string LowerCase(std::string_view text) {
  std::string lower;
  while (!text.empty()) {
    const size_t length = CodePointLength(text);
    if (length > 0) {
      AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(DecodeCodePoint(text)))), lower);
    } else {
      lower += text.front();
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return lower;
}

std::string NormalizeAnswer(std::string_view text) {
  std::string plain;
  for (const char c : LowerCase(text)) {
    if (!absl::ascii_ispunct(static_cast<unsigned char>(c))) plain += c;
  }
  std::string normal;
  for (const std::string& word : Words(plain)) {
    if (word == "a" || word == "an" || word == "the") continue;
    if (!normal.empty()) normal += ' ';
    normal += word;
  }
  return normal;
}

double TokenF1(std::string_view answer, std::string_view reference) {
  const std::vector<std::string> said = Words(NormalizeAnswer(answer));
  const std::vector<std::string> wanted = Words(NormalizeAnswer(reference));
  std::map<std::string, int32_t> left;
  for (const std::string& word : wanted) ++left[word];
  int32_t common = 0;
  for (const std::string& word : said) {
    if (const auto it = left.find(word); it != left.end() && it->second-- > 0) ++common;
  }
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(said.size());
  const double recall = static_cast<double>(common) / static_cast<double>(wanted.size());
  return 2 * precision * recall / (precision + recall);
}

double RougeL(std::string_view answer, std::string_view reference) {
  const auto said = Sentences(answer);
  const auto wanted = Sentences(reference);
  if (said.empty() || wanted.empty()) return 0;
  std::set<std::string> common;
  for (const auto& wanted_sentence : wanted) {
    for (const auto& said_sentence : said) {
      for (std::string& word : CommonWords(wanted_sentence, said_sentence)) common.insert(std::move(word));
    }
  }
  const double n = static_cast<double>(common.size());
  const double recall = n / static_cast<double>(WordSet(wanted).size());
  const double precision = n / static_cast<double>(WordSet(said).size());
  return 2 * (precision * recall / (precision + recall + 1e-8));
}

double ClassificationScore(std::string_view answer, std::string_view reference, std::span<const std::string> classes) {
  int32_t named = 0;
  bool right = false;
  for (const std::string& name : classes) {
    if (answer.find(name) == std::string_view::npos) continue;
    if (name == reference) {
      right = true;
    } else if (reference.find(name) != std::string_view::npos) {
      continue;
    }
    ++named;
  }
  return right ? 1.0 / named : 0;
}

double CountScore(std::string_view answer, std::string_view reference) {
  const std::vector<std::string> numbers = Numbers(answer);
  if (numbers.empty()) return 0;
  return static_cast<double>(std::count(numbers.begin(), numbers.end(), reference)) /
         static_cast<double>(numbers.size());
}

double RetrievalScore(std::string_view answer, std::string_view reference) {
  constexpr std::string_view kParagraph = "Paragraph ";
  const size_t at = reference.find(kParagraph);
  if (at == std::string_view::npos) return 0;
  const std::string_view rest = reference.substr(at + kParagraph.size());
  const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  return digits == 0 ? 0 : CountScore(answer, rest.substr(0, digits));
}

double CodeSimilarity(std::string_view answer, std::string_view reference) {
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  std::string_view code;
  while (!answer.empty()) {
    const size_t end = std::min(answer.find('\n'), answer.size());
    const std::string_view line = answer.substr(0, end);
    if (line.find('`') == line.npos && line.find('#') == line.npos && line.find("//") == line.npos) {
      code = line;
      break;
    }
    answer.remove_prefix(std::min(end + 1, answer.size()));
  }
  const std::vector<char32_t> a = CodePoints(code), b = CodePoints(reference);
  if (a.empty() && b.empty()) return 1;
  const double ratio = 2.0 * CommonLength(a, b) / static_cast<double>(a.size() + b.size());
  return std::round(100 * ratio) / 100;
}

}  // namespace lukv
