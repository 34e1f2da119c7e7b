// From what each cached entry turned out to be worth to how much of each head to keep: the offline half of LU-KV
// (arXiv 2602.08585, section 4). Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lukv {

// Entries of one head that are not protected, best first by their scores (ties to the lower entry; not a number counts
// as the least): the order in which a budget of b is spent. The first `sink` and the last `window` entries are
// protected, which is kept whatever they score.
std::vector<int32_t> RankEntries(std::span<const float> scores, int32_t sink, int32_t window);

// With L(b) = worth of the entries that a budget of b leaves out, and decrements d(i) = L(i - 1) - L(i) of ranked
// entries: replaces d by the decrements of the lower convex hull of L. They do not rise any more, and the hull is the
// best convex loss that is nowhere above L. (Pool adjacent violators: Barlow et al. 1972.)
void RelaxDecrements(std::span<double> decrements);

// The part of a head that is never evicted: 1 % of its entries, what is protected, and one entry.
int32_t FloorOfHead(int32_t n_tokens, int32_t n_protected);

// Entries of n_heads heads (all layers together) that are evicted at a global ratio of `percent` %, if the floors leave
// so many: percent / 100 * n_heads * n_tokens, rounded half to even.
int64_t EntriesToEvict(int32_t percent, int32_t n_heads, int32_t n_tokens);

// How many entries each head keeps at 1 % .. 99 % removed over all heads: [99, n_heads], protected entries counted in.
// relaxed: [n_heads, n_tokens - n_protected], each row as RelaxDecrements leaves it. The entry with the least loss over
// all heads goes first (ties to the lower head), never below a head's floor; for losses that are convex this is the
// optimum at every ratio.
std::vector<int32_t> SolveBudgets(int32_t n_tokens, int32_t n_protected, int32_t n_heads,
                                  std::span<const double> relaxed);

}  // namespace lukv
