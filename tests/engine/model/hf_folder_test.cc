// Folders as a whole. What is inside config.json and a safetensors file has its own tests.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "engine/model/weight_source.h"
#include "tests/engine/model/safetensors_builder.h"
#include "tests/engine/model/status_matchers.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;
using nlohmann::json;

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

// A folder of its own, gone with the test.
class HfFolder : public testing::Test {
 protected:
  HfFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / (std::string("lukv_hf_folder_") + info->name());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    Write("config.json", json{{"model_type", "llama"},
                              {"hidden_size", 8},
                              {"num_hidden_layers", 1},
                              {"num_attention_heads", 2},
                              {"num_key_value_heads", 1},
                              {"intermediate_size", 6},
                              {"vocab_size", 5},
                              {"max_position_embeddings", 64},
                              {"tie_word_embeddings", true}}
                             .dump());
    weights_.AddF32("model.embed_tokens.weight", {5, 8})
        .AddF32("model.norm.weight", {8})
        .AddF32("model.layers.0.input_layernorm.weight", {8})
        .AddF32("model.layers.0.post_attention_layernorm.weight", {8})
        .AddF32("model.layers.0.self_attn.q_proj.weight", {8, 8})
        .AddF32("model.layers.0.self_attn.k_proj.weight", {4, 8})
        .AddF32("model.layers.0.self_attn.v_proj.weight", {4, 8})
        .AddF32("model.layers.0.self_attn.o_proj.weight", {8, 8})
        .AddF32("model.layers.0.mlp.gate_proj.weight", {6, 8})
        .AddF32("model.layers.0.mlp.up_proj.weight", {6, 8})
        .AddF32("model.layers.0.mlp.down_proj.weight", {8, 6});
  }
  ~HfFolder() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& contents) {
    std::ofstream(folder_ / name, std::ios::binary) << contents;
  }
  void ExpectRefused(StatusCode code, const std::string& words) {
    const auto weights = OpenWeights(folder_.string());
    ExpectStatus(weights.status(), code, words);
    EXPECT_TRUE(absl::StartsWith(weights.status().message(), folder_.string())) << weights.status();
  }

  fs::path folder_;
  SafetensorsBuilder weights_;
};

TEST_F(HfFolder, Opens) {
  Write(kSingle, weights_.Build());
  const auto weights = OpenWeights(folder_.string() + "/");
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->config().name, folder_.filename().string());
  EXPECT_EQ((*weights)->file_bytes(), weights_.Build().size());
  EXPECT_EQ((*weights)->gguf(), nullptr);
  const auto down = (*weights)->Tensor("blk.0.ffn_down.weight");
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(down->rows, 8);
  EXPECT_EQ(down->cols, 6);
  EXPECT_FALSE((*weights)->Has("output.weight"));
  ExpectStatus((*weights)->Tensor("model.norm.weight").status(), StatusCode::kNotFound, "model.norm.weight");
}

TEST_F(HfFolder, ShardsAreCountedOnce) {
  const auto weights = OpenWeights(GoldenPath("models/tiny/qwen2-sharded"));
  ASSERT_TRUE(weights.ok()) << weights.status();
  size_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(GoldenPath("models/tiny/qwen2-sharded"))) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  EXPECT_EQ((*weights)->file_bytes(), bytes);
}

TEST_F(HfFolder, TensorsThatOldVersionsStoredAreIgnored) {
  weights_.AddF32("lm_head.weight", {5, 8}).AddF32("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  Write(kSingle, weights_.Build());
  EXPECT_TRUE(OpenWeights(folder_.string()).ok()) << OpenWeights(folder_.string()).status();
}

TEST_F(HfFolder, MissingFilesAreNamed) {
  ExpectRefused(StatusCode::kNotFound, "holds neither model.safetensors nor model.safetensors.index.json");
  fs::remove(folder_ / "config.json");
  ExpectRefused(StatusCode::kNotFound, "holds no config.json");
}

TEST_F(HfFolder, ABadConfigIsNamedWithItsFile) {
  Write(kSingle, weights_.Build());
  Write("config.json", "{\"model_type\": \"llama\",}");
  ExpectRefused(StatusCode::kInvalidArgument, "/config.json: not valid JSON at byte");
  Write("config.json", "");
  ExpectRefused(StatusCode::kInvalidArgument, "/config.json: not valid JSON at byte");
  Write("config.json", "{\"model_type\": \"mamba\"}");
  ExpectRefused(StatusCode::kUnimplemented, "/config.json: model_type \"mamba\" is not supported");
}

TEST_F(HfFolder, MissingOddAndMisshapenTensorsAreNamed) {
  SafetensorsBuilder missing = weights_;
  missing.Remove("model.layers.0.mlp.up_proj.weight");
  Write(kSingle, missing.Build());
  ExpectRefused(StatusCode::kInvalidArgument, "tensor \"model.layers.0.mlp.up_proj.weight\" is missing");

  SafetensorsBuilder odd = weights_;
  odd.AddF32("model.layers.0.self_attn.sinks", {2});
  Write(kSingle, odd.Build());
  ExpectRefused(StatusCode::kUnimplemented,
                "tensor \"model.layers.0.self_attn.sinks\" is not part of a llama model as lukv knows it");

  SafetensorsBuilder misshapen = weights_;
  misshapen.AddF32("model.norm.weight", {9});
  Write(kSingle, misshapen.Build());
  ExpectRefused(StatusCode::kInvalidArgument, "tensor output_norm.weight has shape [1, 9]; the config asks for [1, 8]");

  SafetensorsBuilder ints = weights_;
  ints.Add("model.norm.weight", "I8", {8}, "12345678");
  Write(kSingle, ints.Build());
  ExpectRefused(StatusCode::kUnimplemented, "tensor \"model.norm.weight\" is of dtype \"I8\"");
}

TEST_F(HfFolder, TheIndexIsNotBelieved) {
  Write("a.safetensors", weights_.Build());
  const auto with_map = [this](const json& weight_map) { Write(kIndex, json{{"weight_map", weight_map}}.dump()); };
  for (const json& bad : {json(), json::array(), json::object(), json("a.safetensors")}) {
    with_map(bad);
    ExpectRefused(StatusCode::kInvalidArgument, "has no \"weight_map\" of tensor names to files");
  }
  Write(kIndex, "[]");
  ExpectRefused(StatusCode::kInvalidArgument, "has no \"weight_map\"");
  for (const json& bad : {json("../a.safetensors"), json("/etc/passwd"), json("b.bin"), json(7), json("")}) {
    with_map({{"model.norm.weight", bad}});
    ExpectRefused(StatusCode::kInvalidArgument, "which is not the name of a .safetensors file in the folder");
  }
  with_map({{"model.norm.weight", "gone.safetensors"}});
  ExpectRefused(StatusCode::kNotFound, "gone.safetensors: No such file or directory");
  with_map({{"model.other.weight", "a.safetensors"}});
  ExpectRefused(StatusCode::kInvalidArgument,
                "tensor \"model.other.weight\" is not in a.safetensors, where it should be");
  with_map({{"model.norm.weight", "a.safetensors"}});
  ExpectRefused(StatusCode::kInvalidArgument, "tensor \"model.embed_tokens.weight\" is missing");
}

TEST(OpenWeights, ThingsThatAreNoModel) {
  const fs::path folder = fs::path(testing::TempDir()) / "lukv_no_model";
  fs::remove_all(folder);
  fs::create_directory(folder);
  const auto expect = [](const fs::path& path, StatusCode code, const std::string& words) {
    ExpectStatus(OpenWeights(path.string()).status(), code, path.string() + ": " + words);
  };
  expect(folder / "gone.gguf", StatusCode::kNotFound, "No such file or directory");
  expect(folder, StatusCode::kNotFound, "holds no config.json");
  std::ofstream(folder / "empty.gguf").flush();
  expect(folder / "empty.gguf", StatusCode::kInvalidArgument, "the file is empty");
  std::ofstream(folder / "wheel.zip", std::ios::binary) << "PK\x03\x04\x14";
  expect(folder / "wheel.zip", StatusCode::kInvalidArgument, "not a GGUF file: it begins with \"PK\\x03\\x04\"");
  expect("/dev/null", StatusCode::kInvalidArgument, "is not a regular file");
  fs::remove_all(folder);
}

}  // namespace
}  // namespace lukv
