#include "engine/evict/layer_evictor.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

// The first queries are outliers (attention sinks); ExpectedAttention leaves them out, and lifts their entries.
constexpr int32_t kFirstTokens = 4;

// A number that depends on nothing but where the entry stands, in [0, 1). (SplitMix64's finaliser, Steele et al. 2014.)
float RandomScore(uint64_t seed, int32_t layer, int32_t head, int32_t token) {
  uint64_t x = seed;
  for (const int32_t part : {layer, head, token}) {
    x += 0x9e3779b97f4a7c15u * (static_cast<uint64_t>(part) + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
  }
  return static_cast<float>(x >> 40) * 0x1p-24f;
}

}  // namespace

LayerEvictor::LayerEvictor(Backend& backend, const ScorerModel& model, int32_t n_tokens, Position first_position,
                           std::vector<ScorerSettings> scorers)
    : backend_(&backend),
      model_(model),
      n_tokens_(n_tokens),
      first_position_(first_position),
      scorers_(std::move(scorers)) {}

absl::StatusOr<LayerEvictor> LayerEvictor::Make(Backend& backend, const ScorerModel& model, int32_t n_tokens,
                                                Position first_position, std::vector<ScorerSettings> scorers) {
  LayerEvictor evictor(backend, model, n_tokens, first_position, std::move(scorers));
  LUKV_RETURN_IF_ERROR(evictor.AllocateBuffers());
  return evictor;
}

absl::Status LayerEvictor::AllocateBuffers() {
  for (const ScorerSettings& scorer : scorers_) {
    if (scorer.scorer == Scorer::kSnapKv) window_ = std::max(window_, std::min(scorer.queries, n_tokens_));
    if (scorer.scorer == Scorer::kExpectedAttention) moments_ = true;
  }
  const int64_t q_columns = int64_t{model_.n_heads} * model_.head_dim;
  const int64_t entries = int64_t{model_.n_kv_heads} * n_tokens_;
  const auto allocate = [this](DeviceBuffer& buffer, int64_t elements, int64_t bytes_each) -> absl::Status {
    LUKV_ASSIGN_OR_RETURN(buffer, backend_->Allocate(static_cast<size_t>(elements * bytes_each)));
    return absl::OkStatus();
  };
  if (window_ > 0) {
    LUKV_RETURN_IF_ERROR(allocate(window_q_, window_ * q_columns, Traits(backend_->activation_dtype()).block_bytes));
    LUKV_RETURN_IF_ERROR(allocate(window_ids_, window_, sizeof(int32_t)));
  }
  if (moments_) {
    LUKV_RETURN_IF_ERROR(allocate(pivot_, q_columns, sizeof(float)));
    LUKV_RETURN_IF_ERROR(allocate(sum_, q_columns, sizeof(float)));
    LUKV_RETURN_IF_ERROR(allocate(products_, q_columns * model_.head_dim, sizeof(float)));
  }
  if (scorers_.empty()) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(allocate(scores_, entries, sizeof(float)));
  LUKV_RETURN_IF_ERROR(allocate(rows_, entries, sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(allocate(offset_, model_.n_kv_heads + 1, sizeof(int32_t)));
  return allocate(budgets_, model_.n_kv_heads, sizeof(int32_t));
}

absl::Status LayerEvictor::AddQueries(ConstMatrix qkv, ConstMatrix q, int64_t row, int32_t first, int32_t n_rows,
                                      const float* q_norm) {
  const int32_t end = first + n_rows;
  if (moments_ && end > kFirstTokens) {
    const int32_t skipped = std::max(0, kFirstTokens - first);
    const bool reset = first + skipped == kFirstTokens;
    LUKV_RETURN_IF_ERROR(backend_->QueryMoments(
        {.qkv = qkv,
         .row_begin = row + skipped,
         .row_end = row + n_rows,
         .n_heads = model_.n_heads,
         .n_kv_heads = model_.n_kv_heads,
         .head_dim = model_.head_dim,
         .q_norm = q_norm,
         .norm_epsilon = model_.norm_epsilon,
         .reset = reset,
         .moments = {.pivot = pivot_.as<float>(), .sum = sum_.as<float>(), .products = products_.as<float>()}}));
    counted_ = (reset ? 0 : counted_) + n_rows - skipped;
  }
  const int32_t window_begin = n_tokens_ - window_;
  if (window_ == 0 || end <= window_begin) return absl::OkStatus();
  // Rows of the chunk, counted from the first that the window wants.
  const int32_t from = std::max(first, window_begin);
  std::vector<int32_t> ids(static_cast<size_t>(end - from));
  std::iota(ids.begin(), ids.end(), static_cast<int32_t>(row) + from - first);
  LUKV_RETURN_IF_ERROR(backend_->CopyToDevice(window_ids_.data(), ids.data(), ids.size() * sizeof(int32_t)));
  Matrix out{.dtype = q.dtype, .rows = end - from, .cols = q.cols, .stride = q.cols};
  out.data = window_q_.as<std::byte>() + (from - window_begin) * q.cols * Traits(q.dtype).block_bytes;
  return backend_->GatherRows({.in = q, .rows = window_ids_.as<int32_t>(), .out = out});
}

ConstMatrix LayerEvictor::WindowRows(int32_t queries) const {
  const int32_t rows = std::min(queries, n_tokens_);
  const DType dtype = backend_->activation_dtype();
  const int64_t columns = int64_t{model_.n_heads} * model_.head_dim;
  Matrix m{.dtype = dtype, .rows = rows, .cols = columns, .stride = columns};
  m.data = window_q_.as<std::byte>() + (window_ - rows) * columns * Traits(dtype).block_bytes;
  return m;
}

absl::StatusOr<ScoreMatrix> LayerEvictor::Score(const ScorerSettings& scorer, int32_t layer,
                                                const StagedContext& context) {
  LUKV_CHECK(context.n_tokens == n_tokens_);
  const ScoreMatrix scores{.data = scores_.as<float>(), .n_kv_heads = model_.n_kv_heads, .n_tokens = n_tokens_};
  switch (scorer.scorer) {
    case Scorer::kExpectedAttention:
      // A context of the first tokens alone has no query to learn from, and every entry is lifted.
      if (n_tokens_ <= kFirstTokens) {
        LUKV_RETURN_IF_ERROR(HostScores(scorer, layer));
        break;
      }
      LUKV_RETURN_IF_ERROR(backend_->ScoreExpectedAttention(
          {.context = context,
           .n_heads = model_.n_heads,
           .moments = {.pivot = pivot_.as<float>(), .sum = sum_.as<float>(), .products = products_.as<float>()},
           .count = counted_,
           .inverse_frequency = model_.inverse_frequency,
           .layout = model_.rope_layout,
           .next_position = Position{Value(first_position_) + n_tokens_},
           .n_future = scorer.future,
           .n_first = kFirstTokens,
           .epsilon = scorer.epsilon,
           .scale = model_.scale,
           .scores = scores}));
      break;
    case Scorer::kSnapKv:
      LUKV_RETURN_IF_ERROR(backend_->ScoreSnapKv({.context = context,
                                                  .n_heads = model_.n_heads,
                                                  .window_q = WindowRows(scorer.queries),
                                                  .kernel = scorer.kernel,
                                                  .pooling = scorer.pooling,
                                                  .scale = model_.scale,
                                                  .scores = scores}));
      break;
    case Scorer::kKeyDiff:
      LUKV_RETURN_IF_ERROR(backend_->ScoreKeyDiff({.context = context, .scores = scores}));
      break;
    case Scorer::kKeyNorm:
      LUKV_RETURN_IF_ERROR(backend_->ScoreKeyNorm({.context = context, .scores = scores}));
      break;
    case Scorer::kStreamingLlm:
    case Scorer::kRandom:
      LUKV_RETURN_IF_ERROR(HostScores(scorer, layer));
      break;
  }
  return scores;
}

// Scores that look at no tensor.
absl::Status LayerEvictor::HostScores(const ScorerSettings& scorer, int32_t layer) {
  std::vector<float> scores;
  scores.reserve(static_cast<size_t>(model_.n_kv_heads) * static_cast<size_t>(n_tokens_));
  for (int32_t head = 0; head < model_.n_kv_heads; ++head) {
    for (int32_t token = 0; token < n_tokens_; ++token) {
      scores.push_back(scorer.scorer == Scorer::kRandom         ? RandomScore(scorer.seed, layer, head, token)
                       : scorer.scorer == Scorer::kStreamingLlm ? static_cast<float>(token)
                                                                : 0.0f);
    }
  }
  return backend_->CopyToDevice(scores_.data(), scores.data(), scores.size() * sizeof(float));
}

absl::StatusOr<KeptRows> LayerEvictor::Choose(const EvictionPlan& plan, int32_t layer, const ScoreMatrix& scores) {
  const Policy& policy = plan.policy();
  const std::span<const int32_t> budgets = plan.layer_budgets(layer);
  KeptRows kept{
      .counts = {budgets.begin(), budgets.end()}, .rows = rows_.as<int32_t>(), .offset = offset_.as<int32_t>()};
  if (!plan.known_from_length()) {
    LUKV_RETURN_IF_ERROR(backend_->AdaptiveBudgets({.scores = scores,
                                                    .sink = policy.sink,
                                                    .window = policy.window,
                                                    .n_kept = budgets.front(),
                                                    .n_safe = plan.n_safe(),
                                                    .budgets = budgets_.as<int32_t>()}));
    // Only the host knows which pages there are, so it has to know the outcome.
    LUKV_RETURN_IF_ERROR(
        backend_->CopyToHost(kept.counts.data(), budgets_.data(), kept.counts.size() * sizeof(int32_t)));
  }
  std::vector<int32_t> offset = {0};
  for (const int32_t count : kept.counts) offset.push_back(offset.back() + count);
  LUKV_RETURN_IF_ERROR(backend_->CopyToDevice(offset_.data(), offset.data(), offset.size() * sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(backend_->SelectTop({.scores = scores,
                                            .sink = policy.sink,
                                            .window = policy.window,
                                            .kept_offset = offset_.as<int32_t>(),
                                            .kept_rows = rows_.as<int32_t>()}));
  return kept;
}

}  // namespace lukv
