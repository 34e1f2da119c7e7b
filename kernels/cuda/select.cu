// The choice of the best entries, by counting: no sorting, no dependence on anything but the scores. A block has a
// head.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

// Entries of one head. The first `sink` and the last `window` are protected.
struct SelectRow {
  const float* scores;
  int32_t n;
  int32_t sink;
  int32_t window;
};

// The best of some keys are those that begin with a greater digit than `prefix` at its first difference, and `left` of
// those that begin with it.
struct SelectState {
  uint32_t prefix;
  uint32_t left;
};

// AdaptiveBudgets between its kernels.
struct BudgetsWork {
  SelectState* sure = nullptr;  // [n_heads]: keys above prefix, and `left` of those that equal it, are the head's own.
  SelectState* states = nullptr;  // [kDigits], before each digit
  uint32_t* counts = nullptr;     // [kDigits, n_heads, kBins]: keys that are not sure, by their next digit
  uint32_t* won = nullptr;        // [n_heads]: of them are above the prefix
};

namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kDigitBits = 8;
constexpr int kBins = 1 << kDigitBits;
constexpr int kDigits = 32 / kDigitBits;
constexpr int kBinsPerLane = kBins / kWarp;
constexpr int kCopies = 8;        // Of the counts, each for some of the warps.
constexpr int kKeysAtOnce = 4;    // Loads of a thread under way.
constexpr int kSharedRounds = 2;  // See SelectCount.
constexpr uint32_t kProtectedKey = 0xffffffffu;

// Keys order as scores do: not a number is the least, -0 equals 0, and no number reaches kProtectedKey.
LUKV_DEVICE uint32_t SelectKey(const SelectRow& row, int32_t i) {
  if (i < row.sink || row.n - i <= row.window) return kProtectedKey;
  const float score = row.scores[i];
  if (score != score) return 0;
  const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 + 0 is 0.
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

LUKV_DEVICE SelectRow SelectRowOf(const ScoreMatrix& scores, int32_t sink, int32_t window, int32_t head) {
  return {scores.data + static_cast<int64_t>(head) * scores.n_tokens, scores.n_tokens, sink, window};
}

constexpr int SelectShift(int digit) { return 32 - kDigitBits * (digit + 1); }

LUKV_DEVICE uint32_t SelectWarpSum(uint32_t value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

// counts[copy][b]: keys up to `highest` that begin with the digits of `prefix` and have b for the one at `digit`.
// Neighbours are often alike, and scores often have few digits: lanes with the digit of the first of them add up among
// themselves, then those with the digit of the first that is left; the rest goes one by one.
LUKV_DEVICE void SelectCount(const SelectRow& row, int digit, uint32_t prefix, uint32_t highest, uint32_t* counts) {
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kCopies * kBins; i += kThreads) counts[i] = 0;
  __syncthreads();
  uint32_t* const mine = counts + Warp() % kCopies * kBins;
  const int shift = SelectShift(digit);
  const uint32_t above = digit == 0 ? 0 : 0xffffffffu << (shift + kDigitBits);
  for (int32_t first = Warp() * kWarp; first < row.n; first += kKeysAtOnce * kThreads) {
    uint32_t keys[kKeysAtOnce];
    bool counted[kKeysAtOnce];
#pragma unroll
    for (int u = 0; u < kKeysAtOnce; ++u) {
      const int32_t i = first + u * kThreads + Lane();
      keys[u] = i < row.n ? SelectKey(row, i) : 0;
      counted[u] = i < row.n && ((keys[u] ^ prefix) & above) == 0 && keys[u] <= highest;
    }
#pragma unroll
    for (int u = 0; u < kKeysAtOnce; ++u) {
      const uint32_t bin = keys[u] >> shift & (kBins - 1);
      unsigned pending = __ballot_sync(kFullWarp, counted[u]);
      for (int round = 0; round < kSharedRounds && pending != 0; ++round) {
        const int leader = __ffs(static_cast<int>(pending)) - 1;
        const uint32_t leaders = __shfl_sync(kFullWarp, bin, leader);
        const unsigned alike = __ballot_sync(kFullWarp, bin == leaders) & pending;
        if (Lane() == leader) atomicAdd(mine + bin, static_cast<uint32_t>(__popc(alike)));
        pending &= ~alike;
      }
      if ((pending >> Lane() & 1) != 0) atomicAdd(mine + bin, 1u);
    }
  }
  __syncthreads();
}

// The state after the digit whose counts are given, [copies, kBins], the highest bins first. For a whole warp; all
// lanes get it.
LUKV_DEVICE SelectState SelectDigit(const uint32_t* counts, int copies, int digit, SelectState state) {
  uint32_t bins[kBinsPerLane];
  uint32_t total = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerLane; ++i) {
    bins[i] = 0;
    for (int copy = 0; copy < copies; ++copy) {
      bins[i] += counts[copy * kBins + kBins - 1 - (Lane() * kBinsPerLane + i)];
    }
    total += bins[i];
  }
  uint32_t before = total;  // Up to this lane, then up to its bins.
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const uint32_t lower = __shfl_up_sync(kFullWarp, before, static_cast<unsigned>(offset));
    if (Lane() >= offset) before += lower;
  }
  const int source = __ffs(static_cast<int>(__ballot_sync(kFullWarp, before >= state.left))) - 1;
  before -= total;
  uint32_t bin = kBins - 1 - static_cast<uint32_t>(Lane()) * kBinsPerLane;
  bool found = false;
#pragma unroll
  for (int i = 0; i < kBinsPerLane; ++i) {
    found = found || before + bins[i] >= state.left;
    if (!found) {
      before += bins[i];
      --bin;
    }
  }
  bin = __shfl_sync(kFullWarp, bin, source);
  before = __shfl_sync(kFullWarp, before, source);
  return {state.prefix | bin << SelectShift(digit), state.left - before};
}

// The threshold of a head's best k: keys above prefix, and `left` of those that equal it. counts: [kCopies, kBins]
LUKV_DEVICE SelectState SelectThreshold(const SelectRow& row, uint32_t k, uint32_t* counts, SelectState* shared) {
  SelectState state = {0, k};
  for (int digit = 0; digit < kDigits; ++digit) {
    SelectCount(row, digit, state.prefix, kProtectedKey, counts);
    if (Warp() == 0) {
      state = SelectDigit(counts, kCopies, digit, state);
      if (Lane() == 0) *shared = state;
    }
    __syncthreads();
    state = *shared;
  }
  return state;
}

}  // namespace

__global__ void __launch_bounds__(kThreads) SelectTopKernel(SelectTopArgs args) {
  LUKV_SHARED(uint32_t, counts, kCopies * kBins);
  LUKV_SHARED(SelectState, shared, 1);
  LUKV_SHARED(uint32_t, warp_above, kWarps);
  LUKV_SHARED(uint32_t, warp_equal, kWarps);
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const SelectRow row = SelectRowOf(args.scores, args.sink, args.window, head);
  const int32_t begin = args.kept_offset[head];
  const uint32_t k = static_cast<uint32_t>(args.kept_offset[head + 1] - begin);
  if (k == 0) return;
  const SelectState threshold = SelectThreshold(row, k, counts, shared);

  // Each warp has a stretch of the entries: once it is known how many are chosen before it, it goes on alone.
  const int32_t stretch = (row.n + kThreads - 1) / kThreads * kWarp;
  const int32_t first = min(row.n, Warp() * stretch);
  const int32_t end = min(row.n, first + stretch);
  uint32_t above = 0;
  uint32_t equal = 0;
  for (int32_t i = first + Lane(); i < end; i += kWarp) {
    const uint32_t key = SelectKey(row, i);
    above += key > threshold.prefix ? 1 : 0;
    equal += key == threshold.prefix ? 1 : 0;
  }
  above = SelectWarpSum(above);
  equal = SelectWarpSum(equal);
  if (Lane() == 0) {
    warp_above[Warp()] = above;
    warp_equal[Warp()] = equal;
  }
  __syncthreads();
  above = SelectWarpSum(Lane() < Warp() ? warp_above[Lane()] : 0);
  equal = SelectWarpSum(Lane() < Warp() ? warp_equal[Lane()] : 0);
  const unsigned lower_lanes = (1u << Lane()) - 1;
  int32_t* const to = args.kept_rows + begin;
  for (int32_t base = first; base < end; base += kWarp) {
    const int32_t i = base + Lane();
    const uint32_t key = i < end ? SelectKey(row, i) : 0;
    const bool is_above = i < end && key > threshold.prefix;
    const bool is_equal = i < end && key == threshold.prefix;
    const unsigned all_above = __ballot_sync(kFullWarp, is_above);
    const unsigned all_equal = __ballot_sync(kFullWarp, is_equal);
    const uint32_t ties = equal + static_cast<uint32_t>(__popc(all_equal & lower_lanes));
    const uint32_t place = above + static_cast<uint32_t>(__popc(all_above & lower_lanes)) + min(ties, threshold.left);
    if (is_above || (is_equal && ties < threshold.left)) to[place] = i;
    above += static_cast<uint32_t>(__popc(all_above));
    equal += static_cast<uint32_t>(__popc(all_equal));
  }
}

// Thresholds of the entries that each head is sure of.
__global__ void __launch_bounds__(kThreads) BudgetsSureKernel(AdaptiveBudgetsArgs args, BudgetsWork work) {
  LUKV_SHARED(uint32_t, counts, kCopies * kBins);
  LUKV_SHARED(SelectState, shared, 1);
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const SelectRow row = SelectRowOf(args.scores, args.sink, args.window, head);
  const SelectState sure = SelectThreshold(row, static_cast<uint32_t>(args.n_safe), counts, shared);
  if (threadIdx.x == 0) work.sure[head] = sure;
}

namespace {

// The state of all heads together before `digit`, for the whole block; and what this head has won by the digit before
// it is added to its `won`. totals: [kBins]
LUKV_DEVICE SelectState BudgetsAdvance(const AdaptiveBudgetsArgs& args, const BudgetsWork& work, int digit,
                                       uint32_t* totals, SelectState* shared) {
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const int32_t n_heads = args.scores.n_kv_heads;
  const SelectState all = {0, static_cast<uint32_t>(n_heads) * static_cast<uint32_t>(args.n_kept - args.n_safe)};
  if (digit == 0) {
    if (threadIdx.x == 0) work.won[head] = 0;
    return all;
  }
  const uint32_t* const counts = work.counts + static_cast<int64_t>(digit - 1) * n_heads * kBins;
  if (threadIdx.x < kBins) {
    uint32_t total = 0;
    for (int32_t h = 0; h < n_heads; ++h) total += counts[h * kBins + static_cast<int32_t>(threadIdx.x)];
    totals[threadIdx.x] = total;
  }
  __syncthreads();
  if (Warp() == 0) {
    const SelectState state = SelectDigit(totals, 1, digit - 1, digit == 1 ? all : work.states[digit - 1]);
    const uint32_t last = state.prefix >> SelectShift(digit - 1) & (kBins - 1);
    uint32_t won = 0;
    for (uint32_t bin = static_cast<uint32_t>(Lane()); bin < kBins; bin += kWarp) {
      if (bin > last) won += counts[head * kBins + static_cast<int32_t>(bin)];
    }
    won = SelectWarpSum(won);
    if (Lane() == 0) {
      work.won[head] += won;
      *shared = state;
      if (head == 0 && digit < kDigits) work.states[digit] = state;
    }
  }
  __syncthreads();
  return *shared;
}

}  // namespace

// The keys of a head that compete for what is left, by one digit.
__global__ void __launch_bounds__(kThreads) BudgetsCountKernel(AdaptiveBudgetsArgs args, BudgetsWork work, int digit) {
  LUKV_SHARED(uint32_t, counts, kCopies * kBins);
  LUKV_SHARED(SelectState, shared, 1);
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const SelectRow row = SelectRowOf(args.scores, args.sink, args.window, head);
  const SelectState state = BudgetsAdvance(args, work, digit, counts, shared);
  const SelectState sure = work.sure[head];
  SelectCount(row, digit, state.prefix, sure.prefix, counts);
  const int shift = SelectShift(digit);
  uint32_t* const to = work.counts + (static_cast<int64_t>(digit) * args.scores.n_kv_heads + head) * kBins;
  for (uint32_t bin = threadIdx.x; bin < kBins; bin += kThreads) {
    uint32_t total = 0;
    for (int copy = 0; copy < kCopies; ++copy) total += counts[copy * kBins + static_cast<int>(bin)];
    // Of the keys that equal the threshold some are sure.
    if (sure.prefix >> shift == (state.prefix >> shift | bin)) total -= sure.left;
    to[bin] = total;
  }
}

__global__ void __launch_bounds__(kThreads) BudgetsFinishKernel(AdaptiveBudgetsArgs args, BudgetsWork work) {
  LUKV_SHARED(uint32_t, totals, kBins);
  LUKV_SHARED(SelectState, shared, 1);
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const int32_t n_heads = args.scores.n_kv_heads;
  const SelectState state = BudgetsAdvance(args, work, kDigits, totals, shared);
  if (threadIdx.x != 0) return;
  // Ties go to the lower head.
  const uint32_t* const equal =
      work.counts + static_cast<int64_t>(kDigits - 1) * n_heads * kBins + (state.prefix & (kBins - 1));
  uint32_t left = state.left;
  for (int32_t h = 0; h < head; ++h) left -= min(left, equal[h * kBins]);
  args.budgets[head] = args.n_safe + static_cast<int32_t>(work.won[head] + min(left, equal[head * kBins]));
}

cudaError_t SelectTop(const SelectTopArgs& args, const OpContext& context) {
  return Launch(context.stream, &SelectTopKernel, static_cast<unsigned>(args.scores.n_kv_heads), kThreads, 0, args);
}

cudaError_t AdaptiveBudgets(const AdaptiveBudgetsArgs& args, const OpContext& context) {
  const size_t n_heads = static_cast<size_t>(args.scores.n_kv_heads);
  const size_t n_counts = kDigits * n_heads * kBins;
  void* memory = nullptr;
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(
      (n_heads + kDigits) * sizeof(SelectState) + (n_counts + n_heads) * sizeof(uint32_t), &memory));
  BudgetsWork work;
  work.sure = static_cast<SelectState*>(memory);
  work.states = work.sure + n_heads;
  work.counts = reinterpret_cast<uint32_t*>(work.states + kDigits);
  work.won = work.counts + n_counts;
  const unsigned blocks = static_cast<unsigned>(n_heads);
  LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &BudgetsSureKernel, blocks, kThreads, 0, args, work));
  for (int digit = 0; digit < kDigits; ++digit) {
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &BudgetsCountKernel, blocks, kThreads, 0, args, work, digit));
  }
  return Launch(context.stream, &BudgetsFinishKernel, blocks, kThreads, 0, args, work);
}

}  // namespace lukv::cuda
