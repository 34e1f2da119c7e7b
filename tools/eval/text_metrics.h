// The metrics of LongBench (THUDM/LongBench, metrics.py) on one answer and one reference, 0 to 1. Text is UTF-8.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lukv {

// Lower case, without ASCII punctuation and the words a, an, the, words joined by single spaces.
std::string NormalizeAnswer(std::string_view text);

// F1 of the normalised texts' words, counted with repetitions.
double TokenF1(std::string_view answer, std::string_view reference);

// ROUGE-L (Lin 2004) of whole texts as the `rouge` package computes it: sentences end at '.', a reference sentence's
// longest common subsequences with all answer sentences are united, words count once; F with equal weights.
double RougeL(std::string_view answer, std::string_view reference);

// 1 / (classes named in the answer, but for those inside of the reference's name) if the reference is among them.
double ClassificationScore(std::string_view answer, std::string_view reference, std::span<const std::string> classes);

// Part of the answer's numbers that are the reference.
double CountScore(std::string_view answer, std::string_view reference);

// The same with the number N of "Paragraph N" in the reference; 0 if there is none.
double RetrievalScore(std::string_view answer, std::string_view reference);

// Of the answer's first line that is code (no '`', '#' or "//" in it): 2 * LCS / (sum of lengths) in characters,
// rounded to whole per cent (fuzz.ratio).
double CodeSimilarity(std::string_view answer, std::string_view reference);

// Lower case by Unicode's simple mapping; bytes that are not UTF-8 stay.
std::string LowerCase(std::string_view text);

}  // namespace lukv
