// The argument checks in front of every device: what is refused, by what name, and that nothing runs then.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/recording_backend.h"

namespace lukv {
namespace {

using testing::HasSubstr;

// Good arguments of every op, for tests to spoil. The bodies never look at the data.
constexpr int32_t kRows = 4;
float memory[256] = {};
int32_t ints[8] = {};
uint32_t unsigneds[8] = {};
const FakeLinear linear_weight;
const FakeEmbedding embedding_weight;

Matrix Rows(int64_t cols, int64_t rows = kRows) {
  return {.data = memory, .dtype = DType::kF32, .rows = rows, .cols = cols, .stride = cols};
}
StagingView GoodStaging() {
  return {.k = memory, .v = memory, .dtype = DType::kBF16, .capacity = 10, .n_kv_heads = 2, .head_dim = 4};
}
PageStoreView GoodPages() {
  return {.base = memory, .dtype = DType::kBF16, .page_tokens = 64, .head_dim = 4, .n_pages = 3};
}
PageTableView GoodTable() {
  return {.arena = unsigneds,
          .offset = unsigneds,
          .kept = ints,
          .generated = ints,
          .n_slots = 2,
          .n_layers = 3,
          .n_kv_heads = 2};
}
SequenceRows GoodSequences() { return {.slots = ints, .row_start = ints, .n_sequences = 1}; }
QkvArgs GoodQkv() {
  return {.qkv = Rows((6 + 2 * 2) * 4),
          .positions = reinterpret_cast<const Position*>(ints),
          .n_heads = 6,
          .n_kv_heads = 2,
          .head_dim = 4,
          .inverse_frequency = memory,
          .q_out = Rows(6 * 4)};
}
const PrefillSegment kGoodSegments[] = {{.q_row = 0, .n_query = 2, .context_row = 0, .first = 3},
                                        {.q_row = 2, .n_query = 2, .context_row = 5, .first = 3}};

EmbedArgs Good(EmbedArgs*) { return {.table = &embedding_weight, .ids = ints, .out = Rows(8)}; }
RmsNormArgs Good(RmsNormArgs*) { return {.x = Rows(8), .weight = memory, .epsilon = 1e-5f, .out = Rows(8)}; }
LinearArgs Good(LinearArgs*) {
  LinearArgs args = {.weight = &linear_weight, .bias = nullptr, .in = Rows(8), .out = Rows(6)};
  args.out.data = memory + 64;
  return args;
}
RopeStageArgs Good(RopeStageArgs*) { return {.qkv = GoodQkv(), .staging = GoodStaging(), .staging_row = 6}; }
PrefillAttentionArgs Good(PrefillAttentionArgs*) {
  return {.q = Rows(24),
          .n_heads = 6,
          .staging = GoodStaging(),
          .segments = kGoodSegments,
          .n_segments = 2,
          .scale = 0.5f,
          .out = Rows(24)};
}
AppendArgs Good(AppendArgs*) {
  return {.qkv = GoodQkv(), .sequences = GoodSequences(), .table = GoodTable(), .layer = 2, .pages = GoodPages()};
}
PagedAttentionArgs Good(PagedAttentionArgs*) {
  return {.q = Rows(24),
          .n_heads = 6,
          .sequences = GoodSequences(),
          .table = GoodTable(),
          .layer = 0,
          .pages = GoodPages(),
          .scale = 0.5f,
          .out = Rows(24)};
}
CompactArgs Good(CompactArgs*) {
  return {.staging = GoodStaging(),
          .context_row = 9,
          .kept_rows = ints,
          .kept_offset = ints,
          .slot = 1,
          .layer = 2,
          .table = GoodTable(),
          .pages = GoodPages()};
}
SiluMulArgs Good(SiluMulArgs*) { return {.gate_up = Rows(16), .out = Rows(8)}; }
GatherRowsArgs Good(GatherRowsArgs*) { return {.in = Rows(8), .rows = ints, .out = Rows(8)}; }

constexpr QueryMoments kGoodMoments = {.pivot = memory, .sum = memory, .products = memory};
constexpr ScoreMatrix kGoodScores = {.data = memory, .n_kv_heads = 2, .n_tokens = 4};
StagedContext GoodContext() { return {.staging = GoodStaging(), .context_row = 6, .n_tokens = 4}; }

QueryMomentsArgs Good(QueryMomentsArgs*) {
  return {.qkv = Rows((6 + 2 * 2) * 4),
          .row_begin = 1,
          .row_end = 4,
          .n_heads = 6,
          .n_kv_heads = 2,
          .head_dim = 4,
          .reset = true,
          .moments = kGoodMoments};
}
ScoreExpectedAttentionArgs Good(ScoreExpectedAttentionArgs*) {
  return {.context = GoodContext(),
          .n_heads = 6,
          .moments = kGoodMoments,
          .count = 1,
          .inverse_frequency = memory,
          .scale = 0.5f,
          .scores = kGoodScores};
}
ScoreSnapKvArgs Good(ScoreSnapKvArgs*) {
  return {
      .context = GoodContext(), .n_heads = 6, .window_q = Rows(24), .kernel = 7, .scale = 0.5f, .scores = kGoodScores};
}
ScoreKeyDiffArgs Good(ScoreKeyDiffArgs*) { return {.context = GoodContext(), .scores = kGoodScores}; }
ScoreKeyNormArgs Good(ScoreKeyNormArgs*) { return {.context = GoodContext(), .scores = kGoodScores}; }
AdaptiveBudgetsArgs Good(AdaptiveBudgetsArgs*) {
  return {.scores = kGoodScores, .sink = 4, .window = 1, .n_kept = 4, .n_safe = 4, .budgets = ints};
}
SelectTopArgs Good(SelectTopArgs*) {
  return {.scores = kGoodScores, .sink = 4, .window = 1, .kept_offset = ints, .kept_rows = ints};
}
const ScatterUpdate kGoodUpdates[2] = {};
ScatterArgs Good(ScatterArgs*) { return {.to = unsigneds, .updates = kGoodUpdates, .n_updates = 2}; }
const PageCopy kGoodCopies[2] = {{.from = 0, .to = 1}, {.from = 1, .to = 0}};
CopyPagesArgs Good(CopyPagesArgs*) { return {.pages = GoodPages(), .copies = kGoodCopies, .n_copies = 2}; }
const SampleRow kGoodSampleRows[2] = {};
const TokenAdjustment kGoodAdjustments[1] = {};
SampleArgs Good(SampleArgs*) {
  return {.logits = Rows(8),
          .rows = kGoodSampleRows,
          .n_rows = 2,
          .adjustments = kGoodAdjustments,
          .n_adjustments = 1,
          .max_top = 3,
          .tokens = ints,
          .logprobs = memory,
          .top_tokens = ints,
          .top_logprobs = memory};
}
PagedAttentionWeightsArgs Good(PagedAttentionWeightsArgs*) {
  return {.q = Rows(24),
          .n_heads = 6,
          .sequences = GoodSequences(),
          .table = GoodTable(),
          .layer = 0,
          .pages = GoodPages(),
          .scale = 0.5f,
          .n_entries = 3,
          .out = memory};
}

template <typename Args>
struct Spoiler {
  const char* argument;  // What the message has to name.
  std::function<void(Args&)> spoil;
};

template <typename Args>
void ExpectChecks(absl::Status (Backend::*op)(const Args&), const std::string& name,
                  const std::vector<Spoiler<Args>>& spoilers) {
  RecordingBackend backend;
  EXPECT_EQ((backend.*op)(Good(static_cast<Args*>(nullptr))), absl::OkStatus());
  EXPECT_EQ(backend.ran, std::vector<std::string>{name});
  for (size_t i = 0; i < spoilers.size(); ++i) {
    Args args = Good(static_cast<Args*>(nullptr));
    spoilers[i].spoil(args);
    const absl::Status status = (backend.*op)(args);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name << ", spoiler " << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name + ": " + spoilers[i].argument)) << "spoiler " << i;
  }
  EXPECT_EQ(backend.ran.size(), 1u) << "a body ran with arguments that were refused";
}

TEST(BackendChecks, Embed) {
  ExpectChecks<EmbedArgs>(&Backend::Embed, "Embed",
                          {{"table", [](auto& a) { a.table = nullptr; }},
                           {"ids", [](auto& a) { a.ids = nullptr; }},
                           {"out has 9 columns", [](auto& a) { a.out = Rows(9); }},
                           {"out has dtype BF16", [](auto& a) { a.out.dtype = DType::kBF16; }},
                           {"out has -1 rows", [](auto& a) { a.out.rows = -1; }},
                           {"out is null", [](auto& a) { a.out.data = nullptr; }}});
}

TEST(BackendChecks, RmsNorm) {
  ExpectChecks<RmsNormArgs>(&Backend::RmsNorm, "RmsNorm",
                            {{"weight", [](auto& a) { a.weight = nullptr; }},
                             {"x has stride 7", [](auto& a) { a.x.stride = 7; }},
                             {"x has 0 columns", [](auto& a) { a.x.cols = 0; }},
                             {"out has 3 rows", [](auto& a) { a.out.rows = 3; }},
                             {"out has 7 columns", [](auto& a) { a.out = Rows(7); }},
                             {"epsilon", [](auto& a) { a.epsilon = -1; }},
                             {"epsilon", [](auto& a) { a.epsilon = std::numeric_limits<float>::quiet_NaN(); }}});
}

TEST(BackendChecks, Linear) {
  ExpectChecks<LinearArgs>(&Backend::Linear, "Linear",
                           {{"weight", [](auto& a) { a.weight = nullptr; }},
                            {"in has 9 columns", [](auto& a) { a.in = Rows(9); }},
                            {"out has 8 columns", [](auto& a) { a.out.cols = a.out.stride = 8; }},
                            {"out has 1 rows", [](auto& a) { a.out.rows = 1; }},
                            {"out has dtype F16", [](auto& a) { a.out.dtype = DType::kF16; }},
                            {"out must not be in", [](auto& a) { a.out.data = memory; }}});
}

TEST(BackendChecks, LogitsAreF32WhateverTheActivations) {
  RecordingBackend backend(DType::kBF16);
  LinearArgs args = Good(static_cast<LinearArgs*>(nullptr));
  args.in.dtype = DType::kBF16;
  EXPECT_EQ(backend.Linear(args), absl::OkStatus());
  args.out.dtype = DType::kBF16;
  EXPECT_EQ(backend.Linear(args), absl::OkStatus());
  args.in.dtype = DType::kF32;
  EXPECT_EQ(backend.Linear(args).code(), absl::StatusCode::kInvalidArgument);
}

template <typename Args>
std::vector<Spoiler<Args>> QkvSpoilers() {
  return {{"n_heads is 5", [](auto& a) { a.qkv.n_heads = 5; }},
          {"n_heads is 0", [](auto& a) { a.qkv.n_heads = 0; }},
          {"n_kv_heads", [](auto& a) { a.qkv.n_kv_heads = 0; }},
          {"head_dim is 3", [](auto& a) { a.qkv.head_dim = 3; }},
          {"qkv has 39 columns", [](auto& a) { a.qkv.qkv.cols = 39; }},
          {"q_out has 23 columns", [](auto& a) { a.qkv.q_out.cols = 23; }},
          {"q_out has 3 rows", [](auto& a) { a.qkv.q_out.rows = 3; }},
          {"positions", [](auto& a) { a.qkv.positions = nullptr; }},
          {"inverse_frequency", [](auto& a) { a.qkv.inverse_frequency = nullptr; }},
          {"rope_magnitude", [](auto& a) { a.qkv.rope_magnitude = std::numeric_limits<float>::infinity(); }},
          {"norm_epsilon", [](auto& a) { a.qkv.norm_epsilon = -1; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> StagingSpoilers() {
  return {{"staging.k", [](auto& a) { a.staging.k = nullptr; }},
          {"staging.v", [](auto& a) { a.staging.v = nullptr; }},
          {"staging.dtype is F16", [](auto& a) { a.staging.dtype = DType::kF16; }},
          {"staging.capacity", [](auto& a) { a.staging.capacity = 0; }},
          {"staging.n_kv_heads", [](auto& a) { a.staging.n_kv_heads = 0; }},
          {"staging.head_dim", [](auto& a) { a.staging.head_dim = 5; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> PageSpoilers() {
  return {{"pages.base", [](auto& a) { a.pages.base = nullptr; }},
          {"pages.dtype is Q8_0", [](auto& a) { a.pages.dtype = DType::kQ8_0; }},
          {"pages.page_tokens", [](auto& a) { a.pages.page_tokens = 0; }},
          {"pages.head_dim", [](auto& a) { a.pages.head_dim = 0; }},
          {"pages.n_pages", [](auto& a) { a.pages.n_pages = 0; }},
          {"table.arena", [](auto& a) { a.table.arena = nullptr; }},
          {"table.offset", [](auto& a) { a.table.offset = nullptr; }},
          {"table.kept", [](auto& a) { a.table.kept = nullptr; }},
          {"table.generated", [](auto& a) { a.table.generated = nullptr; }},
          {"table.n_slots", [](auto& a) { a.table.n_slots = 0; }},
          {"table.n_layers", [](auto& a) { a.table.n_layers = -2; }},
          {"table.n_kv_heads", [](auto& a) { a.table.n_kv_heads = 0; }},
          {"layer is 3, must be in [0, 3)", [](auto& a) { a.layer = 3; }},
          {"layer is -1", [](auto& a) { a.layer = -1; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> SequenceSpoilers() {
  return {{"sequences.n_sequences is 0", [](auto& a) { a.sequences.n_sequences = 0; }},
          {"sequences.n_sequences is 3", [](auto& a) { a.sequences.n_sequences = 3; }},
          {"sequences.slots", [](auto& a) { a.sequences.slots = nullptr; }},
          {"sequences.row_start", [](auto& a) { a.sequences.row_start = nullptr; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> ScaleSpoilers() {
  return {{"n_heads is 7", [](auto& a) { a.n_heads = 7; }},
          {"scale", [](auto& a) { a.scale = 0; }},
          {"scale", [](auto& a) { a.scale = std::numeric_limits<float>::quiet_NaN(); }}};
}

template <typename Args>
std::vector<Spoiler<Args>> QuerySpoilers() {
  return {{"q has 20 columns", [](auto& a) { a.q = Rows(20); }}, {"q is null", [](auto& a) { a.q.data = nullptr; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> OutSpoilers() {
  return {{"out has 20 columns", [](auto& a) { a.out = Rows(20); }},
          {"out has 2 rows", [](auto& a) { a.out.rows = 2; }},
          {"out has dtype BF16", [](auto& a) { a.out.dtype = DType::kBF16; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> MomentSpoilers() {
  return {{"moments.pivot", [](auto& a) { a.moments.pivot = nullptr; }},
          {"moments.sum", [](auto& a) { a.moments.sum = nullptr; }},
          {"moments.products", [](auto& a) { a.moments.products = nullptr; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> ScoresSpoilers() {
  return {{"scores.data", [](auto& a) { a.scores.data = nullptr; }},
          {"scores.n_kv_heads is 0", [](auto& a) { a.scores.n_kv_heads = 0; }},
          {"scores.n_tokens is 0", [](auto& a) { a.scores.n_tokens = 0; }}};
}

// Of the ops that score a context.
template <typename Args>
std::vector<Spoiler<Args>> ContextSpoilers() {
  return {{"staging.k", [](auto& a) { a.context.staging.k = nullptr; }},
          {"staging.dtype is F16", [](auto& a) { a.context.staging.dtype = DType::kF16; }},
          {"context_row is -1", [](auto& a) { a.context.context_row = -1; }},
          {"n_tokens is 0", [](auto& a) { a.context.n_tokens = 0; }},
          {"n_tokens is 4 from row 7", [](auto& a) { a.context.context_row = 7; }},
          {"n_tokens is 2147483647", [](auto& a) { a.context.n_tokens = std::numeric_limits<int32_t>::max(); }},
          {"scores.n_kv_heads is 3, must be 2", [](auto& a) { a.scores.n_kv_heads = 3; }},
          {"scores.n_tokens is 5, must be 4", [](auto& a) { a.scores.n_tokens = 5; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> ProtectionSpoilers() {
  return {{"sink is -1", [](auto& a) { a.sink = -1; }}, {"window is -1", [](auto& a) { a.window = -1; }}};
}

template <typename Args>
std::vector<Spoiler<Args>> Join(std::vector<std::vector<Spoiler<Args>>> lists) {
  std::vector<Spoiler<Args>> all;
  for (auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

TEST(BackendChecks, RopeStage) {
  using A = RopeStageArgs;
  ExpectChecks<A>(
      &Backend::RopeStage, "RopeStage",
      Join<A>({QkvSpoilers<A>(),
               StagingSpoilers<A>(),
               {{"staging.n_kv_heads is 3, must be 2", [](auto& a) { a.staging.n_kv_heads = 3; }},
                {"staging.head_dim is 6, must be 4", [](auto& a) { a.staging.head_dim = 6; }},
                {"staging_row is -1", [](auto& a) { a.staging_row = -1; }},
                {"staging_row is 7", [](auto& a) { a.staging_row = 7; }},
                {"staging_row is 2147483647", [](auto& a) { a.staging_row = std::numeric_limits<int32_t>::max(); }}}}));
}

template <int32_t PrefillSegment::*kMember>
void SpoilSegment(PrefillAttentionArgs& args, int32_t value) {
  static PrefillSegment segments[2];
  segments[0] = kGoodSegments[0];
  segments[1] = kGoodSegments[1];
  segments[1].*kMember = value;
  args.segments = segments;
}

TEST(BackendChecks, PrefillAttention) {
  using A = PrefillAttentionArgs;
  using S = PrefillSegment;
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  ExpectChecks<A>(
      &Backend::PrefillAttention, "PrefillAttention",
      Join<A>(
          {StagingSpoilers<A>(),
           ScaleSpoilers<A>(),
           QuerySpoilers<A>(),
           OutSpoilers<A>(),
           {{"segments is null", [](auto& a) { a.segments = nullptr; }},
            {"n_segments is -1", [](auto& a) { a.n_segments = -1; }},
            {"segments[1].n_query is -1", [](auto& a) { SpoilSegment<&S::n_query>(a, -1); }},
            {"segments[1].n_query reaches row 5 of 4", [](auto& a) { SpoilSegment<&S::n_query>(a, 3); }},
            {"segments[1].n_query reaches row", [](auto& a) { SpoilSegment<&S::n_query>(a, kMax); }},
            {"segments[1].q_row is 1", [](auto& a) { SpoilSegment<&S::q_row>(a, 1); }},
            {"segments[1].first is -1", [](auto& a) { SpoilSegment<&S::first>(a, -1); }},
            {"segments[1].n_query reaches staging row 11", [](auto& a) { SpoilSegment<&S::first>(a, 4); }},
            {"segments[1].context_row is -1", [](auto& a) { SpoilSegment<&S::context_row>(a, -1); }},
            {"segments[1].n_query reaches staging row", [](auto& a) { SpoilSegment<&S::context_row>(a, kMax); }}}}));
}

TEST(BackendChecks, Append) {
  using A = AppendArgs;
  ExpectChecks<A>(&Backend::Append, "Append",
                  Join<A>({QkvSpoilers<A>(),
                           PageSpoilers<A>(),
                           SequenceSpoilers<A>(),
                           {{"table.n_kv_heads is 1, must be 2", [](auto& a) { a.table.n_kv_heads = 1; }},
                            {"pages.head_dim is 8, must be 4", [](auto& a) { a.pages.head_dim = 8; }}}}));
}

TEST(BackendChecks, PagedAttention) {
  using A = PagedAttentionArgs;
  ExpectChecks<A>(
      &Backend::PagedAttention, "PagedAttention",
      Join<A>({PageSpoilers<A>(), SequenceSpoilers<A>(), ScaleSpoilers<A>(), QuerySpoilers<A>(), OutSpoilers<A>()}));
}

TEST(BackendChecks, Compact) {
  using A = CompactArgs;
  ExpectChecks<A>(&Backend::Compact, "Compact",
                  Join<A>({StagingSpoilers<A>(),
                           PageSpoilers<A>(),
                           {{"context_row is 10", [](auto& a) { a.context_row = 10; }},
                            {"slot is 2", [](auto& a) { a.slot = 2; }},
                            {"slot is -1", [](auto& a) { a.slot = -1; }},
                            {"table.n_kv_heads is 1, must be 2", [](auto& a) { a.table.n_kv_heads = 1; }},
                            {"pages.head_dim is 8, must be 4", [](auto& a) { a.pages.head_dim = 8; }},
                            {"pages.dtype", [](auto& a) { a.pages.dtype = DType::kF32; }},
                            {"kept_offset", [](auto& a) { a.kept_offset = nullptr; }},
                            {"kept_offset", [](auto& a) { a.kept_rows = nullptr; }}}}));
}

TEST(BackendChecks, SiluMul) {
  ExpectChecks<SiluMulArgs>(&Backend::SiluMul, "SiluMul",
                            {{"gate_up has 15 columns", [](auto& a) { a.gate_up = Rows(15); }},
                             {"gate_up has dtype", [](auto& a) { a.gate_up.dtype = DType::kQ4_0; }},
                             {"out has 3 rows", [](auto& a) { a.out.rows = 3; }}});
}

TEST(BackendChecks, GatherRows) {
  ExpectChecks<GatherRowsArgs>(&Backend::GatherRows, "GatherRows",
                               {{"rows", [](auto& a) { a.rows = nullptr; }},
                                {"in has no rows", [](auto& a) { a.in.rows = 0; }},
                                {"out has 7 columns", [](auto& a) { a.out = Rows(7); }}});
}

TEST(BackendChecks, QueryMoments) {
  using A = QueryMomentsArgs;
  ExpectChecks<A>(&Backend::QueryMoments, "QueryMoments",
                  Join<A>({MomentSpoilers<A>(),
                           {{"n_heads is 5", [](auto& a) { a.n_heads = 5; }},
                            {"n_kv_heads", [](auto& a) { a.n_kv_heads = 0; }},
                            {"head_dim is 3", [](auto& a) { a.head_dim = 3; }},
                            {"qkv has 39 columns", [](auto& a) { a.qkv.cols = 39; }},
                            {"qkv has dtype BF16", [](auto& a) { a.qkv.dtype = DType::kBF16; }},
                            {"row_begin is -1", [](auto& a) { a.row_begin = -1; }},
                            {"row_end is 5, must be in [1, 5)", [](auto& a) { a.row_end = 5; }},
                            {"row_end is 0", [](auto& a) { a.row_end = 0; }},
                            {"reset", [](auto& a) { a.row_end = a.row_begin; }},
                            {"norm_epsilon", [](auto& a) { a.norm_epsilon = -1; }}}}));
}

TEST(BackendChecks, ScoreExpectedAttention) {
  using A = ScoreExpectedAttentionArgs;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  ExpectChecks<A>(&Backend::ScoreExpectedAttention, "ScoreExpectedAttention",
                  Join<A>({ContextSpoilers<A>(),
                           ScoresSpoilers<A>(),
                           MomentSpoilers<A>(),
                           ScaleSpoilers<A>(),
                           {{"count is 0", [](auto& a) { a.count = 0; }},
                            {"inverse_frequency", [](auto& a) { a.inverse_frequency = nullptr; }},
                            {"rope_magnitude", [](auto& a) { a.rope_magnitude = kInf; }},
                            {"next_position is -1", [](auto& a) { a.next_position = Position{-1}; }},
                            {"n_future is 0", [](auto& a) { a.n_future = 0; }},
                            {"n_first is -1", [](auto& a) { a.n_first = -1; }},
                            {"epsilon", [](auto& a) { a.epsilon = -1; }},
                            {"epsilon", [](auto& a) { a.epsilon = kInf; }}}}));
}

TEST(BackendChecks, ScoreSnapKv) {
  using A = ScoreSnapKvArgs;
  ExpectChecks<A>(&Backend::ScoreSnapKv, "ScoreSnapKv",
                  Join<A>({ContextSpoilers<A>(),
                           ScoresSpoilers<A>(),
                           ScaleSpoilers<A>(),
                           {{"window_q has 20 columns", [](auto& a) { a.window_q = Rows(20); }},
                            {"window_q is null", [](auto& a) { a.window_q.data = nullptr; }},
                            {"window_q has 0 rows for 4 tokens", [](auto& a) { a.window_q.rows = 0; }},
                            {"window_q has 5 rows for 4 tokens", [](auto& a) { a.window_q = Rows(24, 5); }},
                            {"kernel is 4", [](auto& a) { a.kernel = 4; }},
                            {"kernel is -1", [](auto& a) { a.kernel = -1; }},
                            {"pooling is 9", [](auto& a) { a.pooling = static_cast<Pooling>(9); }}}}));
}

TEST(BackendChecks, ScoreKeyDiff) {
  using A = ScoreKeyDiffArgs;
  ExpectChecks<A>(&Backend::ScoreKeyDiff, "ScoreKeyDiff", Join<A>({ContextSpoilers<A>(), ScoresSpoilers<A>()}));
}

TEST(BackendChecks, ScoreKeyNorm) {
  using A = ScoreKeyNormArgs;
  ExpectChecks<A>(&Backend::ScoreKeyNorm, "ScoreKeyNorm", Join<A>({ContextSpoilers<A>(), ScoresSpoilers<A>()}));
}

TEST(BackendChecks, AdaptiveBudgets) {
  using A = AdaptiveBudgetsArgs;
  ExpectChecks<A>(&Backend::AdaptiveBudgets, "AdaptiveBudgets",
                  Join<A>({ScoresSpoilers<A>(),
                           ProtectionSpoilers<A>(),
                           {{"n_kept is 0", [](auto& a) { a.n_kept = 0; }},
                            {"n_kept is 5", [](auto& a) { a.n_kept = 5; }},
                            {"n_safe is -1", [](auto& a) { a.n_safe = -1; }},
                            {"n_safe is 4, must be in [0, 4)", [](auto& a) { a.n_kept = 3; }},
                            {"budgets", [](auto& a) { a.budgets = nullptr; }}}}));
}

TEST(BackendChecks, SelectTop) {
  using A = SelectTopArgs;
  ExpectChecks<A>(&Backend::SelectTop, "SelectTop",
                  Join<A>({ScoresSpoilers<A>(),
                           ProtectionSpoilers<A>(),
                           {{"kept_offset", [](auto& a) { a.kept_offset = nullptr; }},
                            {"kept_rows", [](auto& a) { a.kept_rows = nullptr; }}}}));
}

TEST(BackendChecks, PagedAttentionWeights) {
  using A = PagedAttentionWeightsArgs;
  ExpectChecks<A>(&Backend::PagedAttentionWeights, "PagedAttentionWeights",
                  Join<A>({PageSpoilers<A>(),
                           SequenceSpoilers<A>(),
                           ScaleSpoilers<A>(),
                           QuerySpoilers<A>(),
                           {{"n_entries is 0", [](auto& a) { a.n_entries = 0; }},
                            {"out is null", [](auto& a) { a.out = nullptr; }}}}));
}

TEST(BackendChecks, Scatter) {
  ExpectChecks<ScatterArgs>(&Backend::Scatter, "Scatter",
                            {{"to", [](auto& a) { a.to = nullptr; }},
                             {"updates", [](auto& a) { a.updates = nullptr; }},
                             {"n_updates", [](auto& a) { a.n_updates = -1; }}});
}

TEST(BackendChecks, CopyPages) {
  ExpectChecks<CopyPagesArgs>(&Backend::CopyPages, "CopyPages",
                              {{"pages", [](auto& a) { a.pages.base = nullptr; }},
                               {"copies", [](auto& a) { a.copies = nullptr; }},
                               {"copies.to", [](auto& a) { a.pages.n_pages = 1; }},
                               {"n_copies", [](auto& a) { a.n_copies = -1; }}});
}

TEST(BackendChecks, Sample) {
  ExpectChecks<SampleArgs>(&Backend::Sample, "Sample",
                           {{"logits has dtype BF16", [](auto& a) { a.logits.dtype = DType::kBF16; }},
                            {"rows", [](auto& a) { a.rows = nullptr; }},
                            {"n_rows", [](auto& a) { a.n_rows = -1; }},
                            {"adjustments", [](auto& a) { a.adjustments = nullptr; }},
                            {"max_top", [](auto& a) { a.max_top = 65; }},
                            {"max_top", [](auto& a) { a.max_top = 9; }},
                            {"max_top", [](auto& a) { a.logprobs = nullptr; }},
                            {"max_top", [](auto& a) { a.top_logprobs = nullptr; }},
                            {"tokens", [](auto& a) { a.tokens = nullptr; }}});
}

TEST(BackendChecks, NoRowsIsNoWork) {
  RecordingBackend backend;
  const Matrix none = {.data = nullptr, .dtype = DType::kF32, .rows = 0, .cols = 8, .stride = 8};
  const auto with_cols = [&](int64_t cols) {
    Matrix m = none;
    m.cols = cols;
    return m;
  };
  EXPECT_EQ(backend.Embed({.table = &embedding_weight, .out = none}), absl::OkStatus());
  EXPECT_EQ(backend.RmsNorm({.x = none, .weight = memory, .out = none}), absl::OkStatus());
  EXPECT_EQ(backend.Linear({.weight = &linear_weight, .in = none, .out = with_cols(6)}), absl::OkStatus());
  RopeStageArgs stage = Good(static_cast<RopeStageArgs*>(nullptr));
  stage.qkv.qkv = with_cols(40);
  stage.qkv.q_out = with_cols(24);
  stage.qkv.positions = nullptr;
  EXPECT_EQ(backend.RopeStage(stage), absl::OkStatus());
  PrefillAttentionArgs prefill = Good(static_cast<PrefillAttentionArgs*>(nullptr));
  prefill.n_segments = 0;
  prefill.segments = nullptr;
  EXPECT_EQ(backend.PrefillAttention(prefill), absl::OkStatus());
  AppendArgs append = Good(static_cast<AppendArgs*>(nullptr));
  append.qkv = stage.qkv;
  append.sequences = {};
  EXPECT_EQ(backend.Append(append), absl::OkStatus());
  PagedAttentionArgs paged = Good(static_cast<PagedAttentionArgs*>(nullptr));
  paged.q = with_cols(24);
  paged.out = with_cols(24);
  paged.sequences = {};
  EXPECT_EQ(backend.PagedAttention(paged), absl::OkStatus());
  PagedAttentionWeightsArgs weights = Good(static_cast<PagedAttentionWeightsArgs*>(nullptr));
  weights.q = with_cols(24);
  weights.sequences = {};
  weights.out = nullptr;
  EXPECT_EQ(backend.PagedAttentionWeights(weights), absl::OkStatus());
  QueryMomentsArgs moments = Good(static_cast<QueryMomentsArgs*>(nullptr));
  moments.row_end = moments.row_begin;
  moments.reset = false;
  EXPECT_EQ(backend.QueryMoments(moments), absl::OkStatus());
  EXPECT_EQ(backend.SiluMul({.gate_up = with_cols(16), .out = none}), absl::OkStatus());
  EXPECT_EQ(backend.GatherRows({.in = none, .out = none}), absl::OkStatus());
  EXPECT_EQ(backend.Scatter({}), absl::OkStatus());
  CopyPagesArgs copy = Good(static_cast<CopyPagesArgs*>(nullptr));
  copy.copies = nullptr;
  copy.n_copies = 0;
  EXPECT_EQ(backend.CopyPages(copy), absl::OkStatus());
  EXPECT_EQ(backend.Sample({.logits = none}), absl::OkStatus());
  EXPECT_TRUE(backend.ran.empty());
}

}  // namespace
}  // namespace lukv
