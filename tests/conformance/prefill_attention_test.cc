#include <cmath>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

struct AttentionShape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
};

// One prompt in staging, its queries, and where they stand.
struct Prompt {
  int32_t context_row;
  int32_t tokens;
  std::vector<oracle::HeadEntries> heads;  // [n_kv_heads], of all tokens
  std::vector<float> q;                    // [tokens, n_heads * head_dim]
};

// Some query tokens of one prompt.
struct Piece {
  size_t prompt;
  int32_t first;
  int32_t n;
};

class PrefillAttention : public KvTest {
 protected:
  void Make(const AttentionShape& shape, const std::vector<int32_t>& prompt_tokens, float k_mean = 0.4f,
            float v_mean = 0.5f) {
    shape_ = shape;
    prompts_.clear();
    Random random(50);
    int32_t row = 3;  // Staging rows that belong to nobody stay poison.
    for (const int32_t tokens : prompt_tokens) {
      Prompt prompt = {.context_row = row, .tokens = tokens, .heads = {}, .q = {}};
      const size_t dim = static_cast<size_t>(shape.head_dim);
      for (int32_t h = 0; h < shape.n_kv_heads; ++h) {
        oracle::HeadEntries entries = {.head_dim = shape.head_dim,
                                       .k = random.Values(static_cast<size_t>(tokens) * dim, k_mean),
                                       .v = random.Values(static_cast<size_t>(tokens) * dim, v_mean)};
        for (float& x : entries.k) x = Rounded(x, GetParam().dtype);
        for (float& x : entries.v) x = Rounded(x, GetParam().dtype);
        prompt.heads.push_back(std::move(entries));
      }
      prompt.q = random.Values(static_cast<size_t>(tokens) * RowSize(), 0.3f);
      // Exact in bf16: a backend may multiply in it.
      for (float& x : prompt.q) x = Rounded(2 * x, DType::kBF16);
      prompts_.push_back(std::move(prompt));
      row += tokens + 2;
    }
    capacity_ = row;
  }

  // The rows of the pieces, in order. Staging holds no token that the pieces do not see.
  std::vector<float> Run(Backend& backend, const std::vector<Piece>& pieces) {
    Staging staging(backend, shape_.n_kv_heads, capacity_, shape_.head_dim, GetParam().dtype);
    std::vector<PrefillSegment> segments;
    std::vector<float> q;
    const std::vector<float> gap(RowSize(), 1e30f);  // A row between the segments that nobody asks for.
    for (const Piece& piece : pieces) {
      const Prompt& prompt = prompts_[piece.prompt];
      for (int32_t h = 0; h < shape_.n_kv_heads; ++h) {
        oracle::HeadEntries seen = prompt.heads[static_cast<size_t>(h)];
        seen.k.resize(static_cast<size_t>(piece.first + piece.n) * static_cast<size_t>(shape_.head_dim));
        seen.v.resize(seen.k.size());
        staging.Set(h, prompt.context_row, seen);
      }
      segments.push_back({.q_row = static_cast<int32_t>(q.size() / RowSize()),
                          .n_query = piece.n,
                          .context_row = prompt.context_row,
                          .first = piece.first});
      q.insert(q.end(), prompt.q.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(piece.first) * RowSize()),
               prompt.q.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(piece.first + piece.n) * RowSize()));
      q.insert(q.end(), gap.begin(), gap.end());
    }
    const int64_t rows = static_cast<int64_t>(q.size() / RowSize());
    const DeviceMatrix queries(backend, rows, static_cast<int64_t>(RowSize()), q);
    const DeviceMatrix out(backend, rows, static_cast<int64_t>(RowSize()), backend.activation_dtype());
    const std::vector<std::byte> before = staging.Bytes();
    const absl::Status status = backend.PrefillAttention({.q = queries.view(),
                                                          .n_heads = shape_.n_heads,
                                                          .staging = staging.view(),
                                                          .segments = segments.data(),
                                                          .n_segments = static_cast<int32_t>(segments.size()),
                                                          .scale = Scale(),
                                                          .out = out.view()});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(staging.Bytes(), before) << "staging was written";
    std::vector<float> results;
    const std::vector<float> all = out.Get();
    auto at = all.begin();
    for (const Piece& piece : pieces) {
      const auto end = at + static_cast<ptrdiff_t>(static_cast<size_t>(piece.n) * RowSize());
      results.insert(results.end(), at, end);
      EXPECT_TRUE(std::isnan(*end)) << "a row outside the segments was written";
      at = end + static_cast<ptrdiff_t>(RowSize());
    }
    return results;
  }

  void ExpectOracle(const Piece& piece, std::span<const float> got, int32_t step, double size = kSize) {
    const Prompt& prompt = prompts_[piece.prompt];
    const size_t dim = static_cast<size_t>(shape_.head_dim);
    for (int32_t t = piece.first; t < piece.first + piece.n; t += t + step < piece.first + piece.n ? step : 1) {
      for (int32_t h = 0; h < shape_.n_heads; ++h) {
        const std::span<const float> q =
            std::span(prompt.q).subspan(static_cast<size_t>(t) * RowSize() + static_cast<size_t>(h) * dim, dim);
        const oracle::Vector expected =
            oracle::Attend(q, prompt.heads[static_cast<size_t>(h / (shape_.n_heads / shape_.n_kv_heads))], t + 1,
                           static_cast<double>(Scale()));
        for (size_t d = 0; d < dim; ++d) {
          ASSERT_NEAR(got[static_cast<size_t>(t - piece.first) * RowSize() + static_cast<size_t>(h) * dim + d],
                      expected[d], AttentionTolerance(size))
              << "token " << t << " head " << h << " dim " << d;
        }
      }
    }
  }

  static constexpr double kSize = 8;
  size_t RowSize() const { return static_cast<size_t>(shape_.n_heads) * static_cast<size_t>(shape_.head_dim); }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  AttentionShape shape_ = {};
  int32_t capacity_ = 0;
  std::vector<Prompt> prompts_;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PrefillAttention);
INSTANTIATE_TEST_SUITE_P(Backends, PrefillAttention, testing::ValuesIn(StagingCases()), KvCaseName);

TEST_P(PrefillAttention, AgreesWithTheOracleAtAnyHeadShape) {
  constexpr AttentionShape kShapes[] = {{9, 3, 64}, {8, 1, 64}, {4, 4, 96}, {8, 2, 128}, {8, 1, 80},
                                        {3, 1, 24}, {4, 1, 20}, {2, 2, 10}, {1, 1, 2},   {6, 2, 256}};
  for (const AttentionShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    Make(shape, {150});
    const Piece whole = {.prompt = 0, .first = 0, .n = 150};
    ExpectOracle(whole, Run(*backend_, {whole}), 7);
  }
}

TEST_P(PrefillAttention, AgreesWithTheOracleAtAnyLength) {
  for (const int32_t tokens : {1, 2, 63, 64, 65, 256, 257, 400}) {
    SCOPED_TRACE(testing::Message() << tokens << " tokens");
    Make({6, 2, 64}, {tokens});
    const Piece whole = {.prompt = 0, .first = 0, .n = tokens};
    ExpectOracle(whole, Run(*backend_, {whole}), 31);
  }
  Make({3, 1, 64}, {2100});
  const Piece end = {.prompt = 0, .first = 2000, .n = 100};
  ExpectOracle(end, Run(*backend_, {end}), 23);
}

TEST_P(PrefillAttention, SeveralPromptsInOneUnit) {
  Make({8, 2, 64}, {70, 1, 300, 129});
  const std::vector<Piece> pieces = {{0, 0, 70}, {1, 0, 1}, {2, 200, 100}, {3, 128, 1}};
  const std::vector<float> got = Run(*backend_, pieces);
  size_t at = 0;
  for (const Piece& piece : pieces) {
    const size_t n = static_cast<size_t>(piece.n) * RowSize();
    ExpectOracle(piece, std::span(got).subspan(at, n), 9);
    at += n;
  }
}

TEST_P(PrefillAttention, ManyShortPromptsBesideALongOne) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(1 + i * 7 % 12);
  tokens[13] = 290;
  Make({3, 1, 64}, tokens);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tokens.size(); ++i) pieces.push_back({i, 0, tokens[i]});
  pieces[20] = {20, 1, 0};  // Of this one nothing is asked for.
  const std::vector<float> got = Run(*backend_, pieces);
  size_t at = 0;
  for (const Piece& piece : pieces) {
    const size_t n = static_cast<size_t>(piece.n) * RowSize();
    if (n > 0) ExpectOracle(piece, std::span(got).subspan(at, n), 5);
    at += n;
  }
}

TEST_P(PrefillAttention, EntriesOfALargeCommonMean) {
  for (const AttentionShape& shape : {AttentionShape{3, 1, 128}, AttentionShape{2, 1, 20}}) {
    Make(shape, {100}, 6, 60);
    const Piece whole = {.prompt = 0, .first = 0, .n = 100};
    ExpectOracle(whole, Run(*backend_, {whole}), 7, 64);
  }
}

TEST_P(PrefillAttention, BitsDoNotDependOnChunksNeighboursOrThreads) {
  for (const AttentionShape& shape : {AttentionShape{3, 1, 64}, AttentionShape{4, 2, 24}, AttentionShape{1, 1, 256}}) {
    Make(shape, {333, 40});
    const std::vector<float> whole = Run(*backend_, {{0, 0, 333}});
    std::vector<float> chunks;
    int32_t first = 0;
    for (const int32_t n : {1, 7, 56, 64, 100, 2, 102, 1}) {
      // Beside another prompt in every other chunk.
      std::vector<Piece> pieces = {{0, first, n}};
      if (n % 2 == 0) pieces.push_back({1, 10, 30});
      const std::vector<float> part = Run(*backend_, pieces);
      chunks.insert(chunks.end(), part.begin(),
                    part.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(n) * RowSize()));
      first += n;
    }
    EXPECT_TRUE(SameBits(chunks, whole));
    const auto single = GetParam().backend.make(1);
    ASSERT_TRUE(single.ok());
    EXPECT_TRUE(SameBits(Run(**single, {{0, 0, 333}}), whole));
  }
}

TEST_P(PrefillAttention, LargeScoresDoNotOverflow) {
  Make({2, 1, 64}, {80});
  for (float& x : prompts_[0].q) x *= 256;
  const std::vector<float> got = Run(*backend_, {{0, 0, 80}});
  // A row this sharp is the V row of its highest key.
  for (int32_t t = 0; t < 80; ++t) {
    const oracle::Vector expected =
        oracle::Attend(std::span(prompts_[0].q).subspan(static_cast<size_t>(t) * RowSize(), 64), prompts_[0].heads[0],
                       t + 1, static_cast<double>(Scale()));
    for (size_t d = 0; d < 64; ++d) {
      ASSERT_NEAR(got[static_cast<size_t>(t) * RowSize() + d], expected[d], AttentionTolerance(kSize) * 256) << t;
    }
  }
}

}  // namespace
}  // namespace lukv::conformance
