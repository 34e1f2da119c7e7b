#include "engine/model/gguf_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/model/status_matchers.h"
#include "tests/engine/model/tiny_gguf.h"
#include "tests/oracle/golden_files.h"
#include "tests/oracle/naive_forward.h"

namespace lukv {
namespace {

using absl::StatusCode;

absl::StatusOr<std::unique_ptr<WeightSource>> Load(const std::string& bytes) {
  auto file = GgufFile::Parse(bytes);
  if (!file.ok()) return file.status();
  return WeightsFromGguf(*std::move(file), "from-file");
}

void ExpectRefused(const std::string& bytes, StatusCode code, const std::string& words) {
  ExpectStatus(Load(bytes).status(), code, words);
}

// A tiny llama with more metadata.
std::string TinyLlamaWith(const std::function<void(GgufBuilder&)>& change) {
  GgufBuilder builder = TinyLlamaMetadata();
  change(builder);
  AddTinyLlamaTensors(builder);
  return builder.Build();
}

// The tiny models as llama.cpp's converter would write them give the logits that transformers gives for the folders:
// names, shapes, row order, RoPE layout and scaling of each architecture.
class ConvertedModel : public testing::TestWithParam<std::string> {};

TEST_P(ConvertedModel, GivesTheLogitsOfTransformers) {
  const auto folder = OpenWeights(GoldenPath("models/tiny/" + GetParam()));
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string bytes = ConvertToGguf(**folder);
  const auto weights = Load(bytes);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const bool is_llama = GetParam().starts_with("llama") || GetParam().starts_with("mistral");
  EXPECT_EQ((*weights)->config().rope_layout, is_llama ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit);
  EXPECT_EQ((*weights)->config().name, "from-file");

  const auto ids = ReadGoldenJson("models/tiny/" + GetParam() + ".json")["ids"].get<std::vector<int32_t>>();
  const std::vector<float> expected = ReadGoldenF32("models/tiny/" + GetParam() + ".logits.f32.bin");
  const std::vector<double> logits = NaiveForward(**weights, ids);
  ASSERT_EQ(logits.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - expected[i]));
  EXPECT_LT(worst, 5e-5);
}

INSTANTIATE_TEST_SUITE_P(All, ConvertedModel,
                         testing::Values("llama-group3", "llama-llama3-rope", "llama-linear-rope", "llama-biases",
                                         "mistral-window", "mistral-wide", "qwen2", "qwen2-sharded", "qwen3",
                                         "qwen3-tied"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GgufWeights, TheTinyLlamaLoads) {
  const std::string bytes = TinyLlama();
  const auto weights = Load(bytes);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->config().name, "tiny");
  EXPECT_EQ((*weights)->config().head_dim, 4);
  EXPECT_EQ((*weights)->config().vocabulary, 5);
  EXPECT_EQ((*weights)->config().rope_base, 10000.0f);
  EXPECT_TRUE((*weights)->config().tied_embeddings);
  EXPECT_EQ((*weights)->file_bytes(), bytes.size());
  EXPECT_TRUE((*weights)->Has("blk.0.attn_k.weight"));
  ExpectStatus((*weights)->Tensor("blk.1.attn_k.weight").status(), StatusCode::kNotFound, "blk.1.attn_k.weight");
}

TEST(GgufWeights, WhatIsNotSupportedIsRefusedByName) {
  GgufBuilder other;
  other.AddString("general.architecture", "gemma2");
  ExpectRefused(other.Build(), StatusCode::kUnimplemented,
                "architecture \"gemma2\" is not supported; supported are llama (also Mistral), qwen2, qwen3");
  ExpectRefused(TinyLlamaWith([](GgufBuilder& b) { b.Add("llama.expert_count", uint32_t{8}); }),
                StatusCode::kUnimplemented, "llama.expert_count = 8 is not supported");
  ExpectRefused(TinyLlamaWith([](GgufBuilder& b) { b.Add("llama.logit_scale", 0.5f); }), StatusCode::kUnimplemented,
                "llama.logit_scale = 0.5 is not supported; only 1 is");
  ExpectRefused(TinyLlamaWith([](GgufBuilder& b) { b.AddString("llama.rope.scaling.type", "yarn"); }),
                StatusCode::kUnimplemented,
                "rope scaling \"yarn\" is not supported; supported are none, linear, and llama3");
  ExpectRefused(TinyLlamaWith([](GgufBuilder& b) { b.Add("llama.rope.dimension_count", uint32_t{2}); }),
                StatusCode::kUnimplemented, "llama.rope.dimension_count = 2 of 4: partial rotary");
  ExpectRefused(TinyLlamaWith([](GgufBuilder& b) { b.Add("llama.attention.value_length", uint32_t{6}); }),
                StatusCode::kUnimplemented, "llama.attention.value_length = 6 differs from the key length 4");
  ExpectRefused(
      TinyLlamaWith([](GgufBuilder& b) { b.AddTensor("blk.0.ffn_gate_exps.weight", kGgufF32, {1}, Bytes(1.0f)); }),
      StatusCode::kUnimplemented, "tensor \"blk.0.ffn_gate_exps.weight\" is not part of a llama model");
}

TEST(GgufWeights, SettingsThatMeanOffAreAccepted) {
  const std::string bytes = TinyLlamaWith([](GgufBuilder& b) {
    b.Add("llama.expert_count", uint32_t{0})
        .AddString("llama.rope.scaling.type", "none")
        .Add("llama.rope.dimension_count", uint32_t{4});
  });
  EXPECT_TRUE(Load(bytes).ok()) << Load(bytes).status();
}

TEST(GgufWeights, LinearScalingInBothSpellings) {
  const std::string newer = TinyLlamaWith(
      [](GgufBuilder& b) { b.AddString("llama.rope.scaling.type", "linear").Add("llama.rope.scaling.factor", 4.0f); });
  const std::string older = TinyLlamaWith([](GgufBuilder& b) { b.Add("llama.rope.scale_linear", 4.0f); });
  for (const std::string& bytes : {newer, older}) {
    const auto weights = Load(bytes);
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ((*weights)->config().rope_scaling, RopeScaling::kLinear);
    EXPECT_EQ((*weights)->config().rope_factor, 4.0f);
  }
}

TEST(GgufWeights, MissingAndSenselessKeysAreNamed) {
  ExpectRefused(GgufBuilder().Add("general.x", 1.0f).Build(), StatusCode::kInvalidArgument,
                "key \"general.architecture\" is missing");
  GgufBuilder bare;
  bare.AddString("general.architecture", "qwen3");
  ExpectRefused(bare.Build(), StatusCode::kInvalidArgument, "key \"qwen3.block_count\" is missing");

  const auto with_layers = [](auto value) {
    GgufBuilder builder;
    builder.AddString("general.architecture", "llama").Add("llama.block_count", value);
    return builder.Build();
  };
  ExpectRefused(with_layers(int32_t{-1}), StatusCode::kInvalidArgument, "key \"llama.block_count\" is -1");
  ExpectRefused(with_layers(UINT32_MAX), StatusCode::kInvalidArgument, "key \"llama.block_count\" is 4294967295");
  ExpectRefused(with_layers(2.0f), StatusCode::kInvalidArgument, "is of type float32, not an integer");
}

TEST(GgufWeights, DamagedTensorsAreNamed) {
  const auto with_layers = [](uint32_t layers, const char* extra, const std::vector<uint64_t>& dims) {
    GgufBuilder builder;
    builder.AddString("general.architecture", "llama")
        .Add("llama.block_count", layers)
        .Add("llama.context_length", uint32_t{64})
        .Add("llama.embedding_length", uint32_t{8})
        .Add("llama.feed_forward_length", uint32_t{6})
        .Add("llama.attention.head_count", uint32_t{2})
        .Add("llama.attention.head_count_kv", uint32_t{1});
    AddTinyLlamaTensors(builder);
    uint64_t elements = 1;
    for (const uint64_t dim : dims) elements *= dim;
    if (extra != nullptr) builder.AddTensor(extra, kGgufF32, dims, std::string(4 * elements, '\0'));
    return builder.Build();
  };
  ASSERT_TRUE(Load(with_layers(1, nullptr, {})).ok());
  ExpectRefused(with_layers(4096, nullptr, {}), StatusCode::kInvalidArgument,
                "tensor \"blk.1.attn_norm.weight\" is missing");
  ExpectRefused(with_layers(4097, nullptr, {}), StatusCode::kInvalidArgument, "n_layers is 4097; must be in [1, 4096]");
  // A bias on q alone asks for those of k and v as well.
  ExpectRefused(with_layers(1, "blk.0.attn_q.bias", {8}), StatusCode::kInvalidArgument,
                "tensor \"blk.0.attn_k.bias\" is missing");
  ExpectRefused(with_layers(1, "output.weight", {8, 4}), StatusCode::kInvalidArgument,
                "tensor output.weight has shape [4, 8]; the config asks for [5, 8]");
  ExpectRefused(with_layers(1, "rope_freqs.weight", {3}), StatusCode::kInvalidArgument,
                "tensor rope_freqs.weight has shape [1, 3]; the config asks for [1, 2]");
  ExpectRefused(with_layers(1, "rope_freqs.weight", {2}), StatusCode::kInvalidArgument,
                "a value of rope_divisors is 0; must be finite and above 0");
}

TEST(GgufWeights, NoEmbeddingNoModel) {
  GgufBuilder builder = TinyLlamaMetadata();
  ExpectRefused(builder.Build(), StatusCode::kInvalidArgument, "tensor \"token_embd.weight\" is missing");
}

}  // namespace
}  // namespace lukv
