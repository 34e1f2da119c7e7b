// The choice of the best entries, by counting: no sorting, no dependence on anything but the scores.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/ops.h"

namespace lukv::cpu {
namespace {

constexpr uint32_t kProtectedKey = 0xffffffffu;

// Keys order as scores do: not a number is the least, -0 equals 0, and no number reaches kProtectedKey.
inline uint32_t KeyOf(float score) {
  if (std::isnan(score)) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 + 0 is 0.
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

void FillKeys(const ScoreMatrix& scores, int32_t sink, int32_t window, int32_t head, uint32_t* keys) {
  const int32_t n = scores.n_tokens;
  const float* row = scores.data + static_cast<size_t>(head) * static_cast<size_t>(n);
  for (int32_t i = 0; i < n; ++i) keys[i] = KeyOf(row[i]);
  std::fill_n(keys, std::min(sink, n), kProtectedKey);
  std::fill_n(keys + (n - std::min(window, n)), std::min(window, n), kProtectedKey);
}

// The best k of a number of keys: all above `key`, and `ties` of those that equal it.
struct Threshold {
  uint32_t key = kProtectedKey;
  int64_t ties = 0;
};

// Finds it digit by digit, the highest first. count(shift, prefix, counts) adds, for every key whose bits above
// shift + kDigitBits equal those of prefix, one to counts[its next kDigitBits bits].
constexpr int kDigitBits = 8;
using DigitCounts = int64_t[1 << kDigitBits];

template <class Count>
Threshold FindThreshold(int64_t k, const Count& count) {
  if (k == 0) return {};
  uint32_t prefix = 0;
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    DigitCounts counts = {};
    count(shift, prefix, counts);
    uint32_t digit = (1u << kDigitBits) - 1;
    while (digit > 0 && counts[digit] < k) k -= counts[digit--];
    prefix |= digit << shift;
  }
  return {.key = prefix, .ties = k};
}

// Whether the key's bits above the digit at `shift` equal those of prefix.
inline bool Matches(uint32_t key, uint32_t prefix, int shift) {
  return shift + kDigitBits == 32 || (key ^ prefix) >> (shift + kDigitBits) == 0;
}
inline uint32_t Digit(uint32_t key, int shift) { return key >> shift & ((1u << kDigitBits) - 1); }

Threshold BestOf(const uint32_t* keys, int32_t n, int64_t k) {
  return FindThreshold(k, [&](int shift, uint32_t prefix, DigitCounts& counts) {
    for (int32_t i = 0; i < n; ++i) {
      if (Matches(keys[i], prefix, shift)) ++counts[Digit(keys[i], shift)];
    }
  });
}

// [n_kv_heads, n_tokens] of the op's shared scratch.
uint32_t* TakeKeys(const ScoreMatrix& scores, OpContext& context) {
  const size_t n = static_cast<size_t>(scores.n_kv_heads) * static_cast<size_t>(scores.n_tokens);
  return reinterpret_cast<uint32_t*>(context.Scratch(-1, n * sizeof(uint32_t)));
}

}  // namespace

void SelectTop(const SelectTopArgs& args, OpContext& context) {
  const int32_t n = args.scores.n_tokens;
  uint32_t* all_keys = TakeKeys(args.scores, context);
  context.pool.ParallelFor(args.scores.n_kv_heads, [&](int64_t head, int) {
    uint32_t* keys = all_keys + static_cast<size_t>(head) * static_cast<size_t>(n);
    FillKeys(args.scores, args.sink, args.window, static_cast<int32_t>(head), keys);
    int32_t* to = args.kept_rows + args.kept_offset[head];
    Threshold threshold = BestOf(keys, n, args.kept_offset[head + 1] - args.kept_offset[head]);
    for (int32_t i = 0; i < n; ++i) {
      if (keys[i] > threshold.key || (keys[i] == threshold.key && threshold.ties-- > 0)) *to++ = i;
    }
  });
}

void AdaptiveBudgets(const AdaptiveBudgetsArgs& args, OpContext& context) {
  const int32_t n = args.scores.n_tokens;
  const int32_t n_heads = args.scores.n_kv_heads;
  uint32_t* all_keys = TakeKeys(args.scores, context);
  const auto keys_of = [&](int64_t head) { return all_keys + static_cast<size_t>(head) * static_cast<size_t>(n); };
  std::vector<Threshold> safe(static_cast<size_t>(n_heads));
  context.pool.ParallelFor(n_heads, [&](int64_t head, int) {
    FillKeys(args.scores, args.sink, args.window, static_cast<int32_t>(head), keys_of(head));
    safe[static_cast<size_t>(head)] = BestOf(keys_of(head), n, args.n_safe);
  });
  // The heads compete for what is left with the entries that they are not sure of.
  const auto for_others = [&](int32_t head, const auto& body) {
    Threshold sure = safe[static_cast<size_t>(head)];
    for (const uint32_t* key = keys_of(head); key != keys_of(head) + n; ++key) {
      if (*key < sure.key || (*key == sure.key && sure.ties-- <= 0)) body(*key);
    }
  };
  const int64_t left = int64_t{n_heads} * (args.n_kept - args.n_safe);
  Threshold best = FindThreshold(left, [&](int shift, uint32_t prefix, DigitCounts& counts) {
    for (int32_t h = 0; h < n_heads; ++h) {
      for_others(h, [&](uint32_t key) {
        if (Matches(key, prefix, shift)) ++counts[Digit(key, shift)];
      });
    }
  });
  for (int32_t h = 0; h < n_heads; ++h) {
    int32_t won = 0;
    for_others(h, [&](uint32_t key) {
      if (key > best.key || (key == best.key && best.ties-- > 0)) ++won;
    });
    args.budgets[h] = args.n_safe + won;
  }
}

}  // namespace lukv::cpu
