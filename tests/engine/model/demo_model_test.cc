// The demo model opens, and says of itself what its card says.
#include <gtest/gtest.h>

#include <vector>

#include "engine/model/gguf.h"
#include "engine/model/weight_source.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

TEST(DemoModel, HasTheConfigOfItsCard) {
  const auto weights = OpenWeights(DemoModelPath());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const ModelConfig& config = (*weights)->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.name, "Smollm2 135M 8k Lc100K Mix1 Ep2");
  EXPECT_EQ(config.n_layers, 30);
  EXPECT_EQ(config.n_heads, 9);
  EXPECT_EQ(config.n_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.hidden, 576);
  EXPECT_EQ(config.ffn, 1536);
  EXPECT_EQ(config.vocabulary, 49152);
  EXPECT_EQ(config.context_length, 8192);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.rope_base, 100000.0f);
  EXPECT_EQ(config.rope_layout, RopeLayout::kInterleaved);
  EXPECT_EQ(config.rope_scaling, RopeScaling::kNone);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_EQ((*weights)->file_bytes(), 98362432u);
}

TEST(DemoModel, GivesTensorsAndVocabulary) {
  const auto weights = OpenWeights(DemoModelPath());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto down = (*weights)->Tensor("blk.29.ffn_down.weight");
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(down->dtype, DType::kQ4_1);
  EXPECT_EQ(down->rows, 576);
  EXPECT_EQ(down->cols, 1536);
  EXPECT_FALSE((*weights)->Has("output.weight"));
  EXPECT_EQ((*weights)->Tensor("output.weight").status().code(), absl::StatusCode::kNotFound);

  const GgufFile* file = (*weights)->gguf();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->TensorNames().size(), 272u);
  const auto tokens = file->GetStrings("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  ASSERT_EQ(tokens->size(), 49152u);
  EXPECT_EQ((*tokens)[2], "<|im_end|>");
}

}  // namespace
}  // namespace lukv
