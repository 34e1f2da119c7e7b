#include "engine/model/hf_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

using absl::StatusCode;
using nlohmann::json;

json Base(const std::string& type) {
  return {{"model_type", type},       {"hidden_size", 64},
          {"num_hidden_layers", 4},   {"num_attention_heads", 8},
          {"num_key_value_heads", 2}, {"intermediate_size", 100},
          {"vocab_size", 200},        {"max_position_embeddings", 512},
          {"hidden_act", "silu"}};
}

json With(json root, const json& changes) {
  root.update(changes);
  return root;
}

ModelConfig Read(const json& root) {
  const auto config = ConfigFromHfJson(root, "name");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

void ExpectRefused(const json& root, StatusCode code, const std::string& words) {
  ExpectStatus(ConfigFromHfJson(root, "name").status(), code, words);
}

TEST(HfConfig, DefaultsAreThoseOfTransformers) {
  const ModelConfig llama = Read(Base("llama"));
  EXPECT_EQ(llama.architecture, "llama");
  EXPECT_EQ(llama.name, "name");
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.norm_epsilon, 1e-6f);
  EXPECT_EQ(llama.rope_base, 10000.0f);
  EXPECT_EQ(llama.rope_scaling, RopeScaling::kNone);
  EXPECT_EQ(llama.rope_layout, RopeLayout::kHalfSplit);
  EXPECT_EQ(llama.sliding_window, 0);
  EXPECT_FALSE(llama.tied_embeddings);
  EXPECT_FALSE(llama.qkv_bias);
  EXPECT_FALSE(llama.output_bias);
  EXPECT_FALSE(llama.mlp_bias);
  EXPECT_FALSE(llama.qk_norm);

  EXPECT_EQ(Read(Base("mistral")).sliding_window, 4096);
  const ModelConfig qwen2 = Read(Base("qwen2"));
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.output_bias);
  EXPECT_EQ(qwen2.sliding_window, 0);
  const ModelConfig qwen3 = Read(Base("qwen3"));
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias);

  json no_kv = Base("llama");
  no_kv.erase("num_key_value_heads");
  EXPECT_EQ(Read(no_kv).n_kv_heads, 8);
  EXPECT_EQ(Read(With(Base("llama"), {{"num_key_value_heads", nullptr}, {"head_dim", nullptr}})).head_dim, 8);
}

TEST(HfConfig, Biases) {
  const ModelConfig llama = Read(With(Base("llama"), {{"attention_bias", true}, {"mlp_bias", true}}));
  EXPECT_TRUE(llama.qkv_bias);
  EXPECT_TRUE(llama.output_bias);
  EXPECT_TRUE(llama.mlp_bias);
  const ModelConfig qwen3 = Read(With(Base("qwen3"), {{"attention_bias", true}}));
  EXPECT_TRUE(qwen3.qkv_bias);
  EXPECT_TRUE(qwen3.output_bias);
  EXPECT_FALSE(qwen3.mlp_bias);
}

TEST(HfConfig, RopeInBothSpellings) {
  const json settings = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  const json newer =
      With(Base("llama"), {{"rope_parameters", With(settings, {{"rope_type", "llama3"}, {"rope_theta", 500000.0}})}});
  const json older =
      With(Base("llama"), {{"rope_scaling", With(settings, {{"rope_type", "llama3"}})}, {"rope_theta", 500000}});
  for (const json& root : {newer, older}) {
    const ModelConfig config = Read(root);
    EXPECT_EQ(config.rope_scaling, RopeScaling::kLlama3);
    EXPECT_EQ(config.rope_base, 500000.0f);
    EXPECT_EQ(config.rope_factor, 8.0f);
    EXPECT_EQ(config.rope_low_frequency_factor, 1.0f);
    EXPECT_EQ(config.rope_high_frequency_factor, 4.0f);
    EXPECT_EQ(config.rope_original_context, 8192);
  }
  const ModelConfig linear = Read(With(Base("llama"), {{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}}));
  EXPECT_EQ(linear.rope_scaling, RopeScaling::kLinear);
  EXPECT_EQ(linear.rope_factor, 4.0f);
  const ModelConfig plain =
      Read(With(Base("llama"), {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}}));
  EXPECT_EQ(plain.rope_scaling, RopeScaling::kNone);
  EXPECT_EQ(plain.rope_base, 1e6f);
}

TEST(HfConfig, SlidingWindows) {
  EXPECT_EQ(Read(With(Base("mistral"), {{"sliding_window", nullptr}})).sliding_window, 0);
  EXPECT_EQ(Read(With(Base("mistral"), {{"sliding_window", 100}})).sliding_window, 100);
  EXPECT_EQ(Read(With(Base("qwen2"), {{"use_sliding_window", false}, {"sliding_window", 100}})).sliding_window, 0);
  const json on = With(Base("qwen2"), {{"use_sliding_window", true}, {"sliding_window", 100}});
  EXPECT_EQ(Read(With(on, {{"max_window_layers", 0}})).sliding_window, 100);
  EXPECT_EQ(Read(With(on, {{"max_window_layers", 4}})).sliding_window, 0);
  ExpectRefused(With(on, {{"max_window_layers", 3}}), StatusCode::kUnimplemented,
                "sliding attention in 1 of 4 layers is not supported");

  const json full = json::array({"full_attention", "full_attention", "full_attention", "full_attention"});
  json mixed = full;
  mixed[2] = "sliding_attention";
  EXPECT_EQ(Read(With(Base("qwen3"), {{"layer_types", full}})).sliding_window, 0);
  ExpectRefused(With(on, {{"layer_types", mixed}}), StatusCode::kUnimplemented, "sliding attention in 1 of 4 layers");
  ExpectRefused(With(Base("qwen3"), {{"layer_types", mixed}}), StatusCode::kInvalidArgument,
                "\"layer_types\" lists sliding_attention, but there is no sliding_window");
  mixed[2] = "chunked_attention";
  ExpectRefused(With(on, {{"layer_types", mixed}}), StatusCode::kUnimplemented,
                "layer type \"chunked_attention\" is not supported");
  ExpectRefused(With(on, {{"layer_types", json::array({"full_attention"})}}), StatusCode::kInvalidArgument,
                "\"layer_types\" lists 1 layers of 4");
  ExpectRefused(With(on, {{"layer_types", 7}}), StatusCode::kInvalidArgument, "\"layer_types\" is 7");
}

TEST(HfConfig, WhatIsNotSupportedIsRefusedByName) {
  ExpectRefused(Base("gemma3_text"), StatusCode::kUnimplemented,
                "model_type \"gemma3_text\" is not supported; supported are llama, mistral, qwen2, qwen3");
  ExpectRefused(With(Base("llama"), {{"architectures", {"LlamaForSequenceClassification"}}}),
                StatusCode::kUnimplemented, "only LlamaForCausalLM is supported");
  ExpectRefused(With(Base("llama"), {{"hidden_act", "gelu"}}), StatusCode::kUnimplemented,
                "hidden_act \"gelu\" is not supported; only silu is");
  ExpectRefused(With(Base("llama"), {{"quantization_config", {{"quant_method", "gptq"}}}}), StatusCode::kUnimplemented,
                "gptq");
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    ExpectRefused(With(Base("llama"), {{"rope_scaling", {{"rope_type", type}, {"factor", 2.0}}}}),
                  StatusCode::kUnimplemented,
                  "rope type \"" + std::string(type) + "\" is not supported; supported are default, linear, llama3");
  }
  ExpectRefused(With(Base("llama"), {{"partial_rotary_factor", 0.5}}), StatusCode::kUnimplemented,
                "partial_rotary_factor 0.5 is not supported; only 1 is");
  ExpectRefused(With(Base("llama"), {{"rope_parameters", {{"partial_rotary_factor", 0.25}}}}),
                StatusCode::kUnimplemented, "partial_rotary_factor 0.25");
  ExpectRefused(With(Base("llama"), {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}),
                StatusCode::kUnimplemented, "differs by layer type (\"full_attention\")");
}

TEST(HfConfig, WrongFieldsAreNamed) {
  ExpectRefused(json::array(), StatusCode::kInvalidArgument, "is not a JSON object");
  ExpectRefused(json::object(), StatusCode::kInvalidArgument, "\"model_type\" is missing");
  ExpectRefused({{"model_type", 5}}, StatusCode::kInvalidArgument, "\"model_type\" is 5, not a string");
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                            "vocab_size", "max_position_embeddings"}) {
    json root = Base("llama");
    root.erase(field);
    ExpectRefused(root, StatusCode::kInvalidArgument, "\"" + std::string(field) + "\" is missing");
    root[field] = "many";
    ExpectRefused(root, StatusCode::kInvalidArgument, "\"" + std::string(field) + "\" is \"many\", not a whole number");
    root[field] = -1;
    ExpectRefused(root, StatusCode::kInvalidArgument, "\"" + std::string(field) + "\" is -1, not in [0, 2^31)");
    root[field] = UINT64_MAX;
    ExpectRefused(root, StatusCode::kInvalidArgument, "\"" + std::string(field) + "\" is 18446744073709551615");
    root[field] = 0;
    EXPECT_EQ(ConfigFromHfJson(root, "").status().code(), StatusCode::kInvalidArgument) << field;
  }
  ExpectRefused(With(Base("llama"), {{"rms_norm_eps", "small"}}), StatusCode::kInvalidArgument, "not a number");
  ExpectRefused(With(Base("llama"), {{"rms_norm_eps", 0}}), StatusCode::kInvalidArgument, "norm_epsilon is 0");
  ExpectRefused(With(Base("llama"), {{"attention_bias", 1}}), StatusCode::kInvalidArgument, "not true or false");
  ExpectRefused(With(Base("llama"), {{"rope_scaling", "linear"}}), StatusCode::kInvalidArgument,
                "\"rope_scaling\" is \"linear\"");
  ExpectRefused(With(Base("llama"), {{"rope_scaling", {{"type", "linear"}}}}), StatusCode::kInvalidArgument,
                "\"rope_scaling.factor\" is missing");
  ExpectRefused(With(Base("llama"), {{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8}}}}),
                StatusCode::kInvalidArgument, "\"rope_parameters.low_freq_factor\" is missing");
}

}  // namespace
}  // namespace lukv
