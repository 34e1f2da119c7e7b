// The modelled backend's ops that decide what is kept. Scores are hashes of what the real ones look at.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "base/status_macros.h"
#include "tools/simulate/hashed_rows.h"
#include "tools/simulate/modelled_backend.h"
#include "tools/simulate/random.h"

namespace lukv {
namespace {

using modelled::Load;
using modelled::RowHash;
using modelled::StagedHead;
using modelled::Store;

enum Tag : uint64_t { kExpected = 100, kSnap, kDiff, kNorm };

// [0, 1), of whatever `whole` (the same for all entries) and the entry itself hash to.
void ScoreEntries(const StagedContext& context, const ScoreMatrix& scores, bool values, uint64_t whole) {
  for (int32_t head = 0; head < scores.n_kv_heads; ++head) {
    const StagedHead staged(context.staging, head);
    float* const to = scores.data + static_cast<ptrdiff_t>(head) * scores.n_tokens;
    for (int32_t t = 0; t < scores.n_tokens; ++t) {
      const int32_t row = context.context_row + t;
      to[t] = static_cast<float>(Mix(whole, values ? staged.Term(row) : Load(staged.k(row))) >> 40) * 0x1p-24f;
    }
  }
}

void Lift(const ScoreMatrix& scores, int32_t begin, int32_t end) {
  for (int32_t head = 0; head < scores.n_kv_heads; ++head) {
    for (int32_t t = begin; t < end; ++t) scores.data[static_cast<ptrdiff_t>(head) * scores.n_tokens + t] = 2;
  }
}

struct Scored {
  float score;
  int32_t head;
  int32_t entry;
};

bool Better(const Scored& a, const Scored& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.head != b.head ? a.head < b.head : a.entry < b.entry;
}

// The entries of one head, best first.
std::vector<Scored> Ranked(const ScoreMatrix& scores, int32_t head, int32_t sink, int32_t window) {
  std::vector<Scored> ranked;
  const int32_t n = scores.n_tokens;
  for (int32_t t = 0; t < n; ++t) {
    float score = scores.data[static_cast<ptrdiff_t>(head) * n + t];
    if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();
    if (t < sink || t >= n - window) score = std::numeric_limits<float>::infinity();
    ranked.push_back({score, head, t});
  }
  std::sort(ranked.begin(), ranked.end(), Better);
  return ranked;
}

}  // namespace

absl::Status ModelledBackend::DoQueryMoments(const QueryMomentsArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  uint64_t sum = args.reset ? 0 : Load(args.moments.sum);
  for (int64_t row = args.row_begin; row < args.row_end; ++row) sum = Mix(sum, RowHash(args.qkv, row));
  Store(args.moments.sum, sum);
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  uint64_t whole = Mix(Mix(Load(args.moments.sum), kExpected), static_cast<uint64_t>(args.count));
  whole = Mix(whole, static_cast<uint64_t>(Value(args.next_position)));
  ScoreEntries(args.context, args.scores, true, whole);
  Lift(args.scores, 0, std::min(args.n_first, args.scores.n_tokens));
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoScoreSnapKv(const ScoreSnapKvArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  uint64_t whole = Mix(kSnap, static_cast<uint64_t>(args.kernel));
  for (int64_t row = 0; row < args.window_q.rows; ++row) whole = Mix(whole, RowHash(args.window_q, row));
  ScoreEntries(args.context, args.scores, false, whole);
  Lift(args.scores, args.scores.n_tokens - static_cast<int32_t>(args.window_q.rows), args.scores.n_tokens);
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoScoreKeyDiff(const ScoreKeyDiffArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  uint64_t mean = 0;
  for (int32_t head = 0; head < args.scores.n_kv_heads; ++head) {
    const StagedHead staged(args.context.staging, head);
    for (int32_t t = 0; t < args.scores.n_tokens; ++t) mean += Load(staged.k(args.context.context_row + t));
  }
  ScoreEntries(args.context, args.scores, false, Mix(mean, kDiff));
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoScoreKeyNorm(const ScoreKeyNormArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  ScoreEntries(args.context, args.scores, false, kNorm);
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  std::vector<Scored> others;
  for (int32_t head = 0; head < args.scores.n_kv_heads; ++head) {
    const std::vector<Scored> ranked = Ranked(args.scores, head, args.sink, args.window);
    others.insert(others.end(), ranked.begin() + args.n_safe, ranked.end());
    args.budgets[head] = args.n_safe;
  }
  std::sort(others.begin(), others.end(), Better);
  const size_t left = static_cast<size_t>(args.scores.n_kv_heads) * static_cast<size_t>(args.n_kept - args.n_safe);
  for (size_t i = 0; i < std::min(left, others.size()); ++i) ++args.budgets[others[i].head];
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoSelectTop(const SelectTopArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args, args.kept_offset[args.scores.n_kv_heads])));
  for (int32_t head = 0; head < args.scores.n_kv_heads; ++head) {
    const std::vector<Scored> ranked = Ranked(args.scores, head, args.sink, args.window);
    int32_t* const begin = args.kept_rows + args.kept_offset[head];
    const int32_t n = args.kept_offset[head + 1] - args.kept_offset[head];
    for (int32_t i = 0; i < n; ++i) begin[i] = ranked[static_cast<size_t>(i)].entry;
    std::sort(begin, begin + n);
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoPagedAttentionWeights(const PagedAttentionWeightsArgs&) {
  return absl::UnimplementedError("the modelled device has no attention weights");
}

}  // namespace lukv
