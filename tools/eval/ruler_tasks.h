// The generators behind ruler.h: each gives a family of samples that differ in the size of the haystack alone.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>

#include "tools/eval/random.h"
#include "tools/eval/sample.h"
#include "tools/eval/text.h"

namespace lukv {

// The same question, needles and answers in haystacks of any size.
struct SampleFamily {
  int32_t min_size = 0;
  int32_t max_size = std::numeric_limits<int32_t>::max();
  std::function<EvalSample(int32_t size)> build;
};

enum class NeedleHaystack : uint8_t { kNoise, kEssays, kNeedles };
enum class NeedleKind : uint8_t { kWord, kNumber, kUuid };

struct NeedleTask {
  NeedleHaystack haystack = NeedleHaystack::kEssays;
  NeedleKind key = NeedleKind::kWord;
  NeedleKind value = NeedleKind::kNumber;
  int32_t keys = 1;
  int32_t values_per_key = 1;
  int32_t queries = 1;  // Keys that are asked for; <= keys.
};

// `text` must outlive the family. The random stream is used up to the size alone; what depends on the size draws from
// a copy, so that neighbouring sizes have the same needles.

// Needles "One of the special magic {type} for {key} is: {value}." in a haystack. Size: sentences (noise: its lines,
// needles: other needles).
SampleFamily NeedleFamily(const NeedleTask& task, const EvalText& text, Random random);
// Variable tracking: one chain of 4 hops in noise. Size: lines of noise.
SampleFamily ChainFamily(const EvalText& text, Random random);
// Common words: ten in a numbered list that come more often than the rest. Size: other words.
SampleFamily CommonWordsFamily(const EvalText& text, int32_t length, Random random);
// Frequent words: the three most frequent of coded words with zeta(2) frequencies. Size: words.
SampleFamily FrequentWordsFamily(int32_t length, Random random);
// Questions about one passage (qa_1) or two (qa_2) among others. Size: passages that are not needed. `order` puts the
// questions in the order in which samples take them, the same for all samples of a task.
SampleFamily PassageFamily(bool two_hop, int32_t index, const EvalText& text, Random order, Random random);

// `n` of 40 depths between 0 and 100 %, ascending. n <= 40.
std::vector<int32_t> DrawDepths(int32_t n, Random& random);
// The place in `items` things that a depth stands for.
size_t DepthIndex(int32_t depth, size_t items);

}  // namespace lukv
