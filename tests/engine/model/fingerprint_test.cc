#include "engine/model/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <string>

#include "engine/model/gguf_weights.h"
#include "tests/engine/model/tiny_gguf.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

std::unique_ptr<WeightSource> FromGguf(const std::string& bytes) {
  auto file = GgufFile::Parse(bytes);
  EXPECT_TRUE(file.ok()) << file.status();
  auto source = WeightsFromGguf(*std::move(file), "from-file");
  EXPECT_TRUE(source.ok()) << source.status();
  return *std::move(source);
}

std::string Fingerprint(const WeightSource& source) {
  const auto fingerprint = ModelFingerprint(source);
  EXPECT_TRUE(fingerprint.ok()) << fingerprint.status();
  return fingerprint.value_or("");
}

// Another model that answers for some tensors with other contents.
class Changed : public WeightSource {
 public:
  explicit Changed(const WeightSource& source) : config_value(source.config()), source_(source) {}
  const ModelConfig& config() const override { return config_value; }
  absl::StatusOr<TensorView> Tensor(std::string_view name) const override {
    auto view = source_.Tensor(name);
    if (name != changed_name || !view.ok()) return view;
    contents_.assign(reinterpret_cast<const char*>(view->data), static_cast<size_t>(view->cols) * sizeof(float));
    EXPECT_EQ(view->dtype, DType::kF32);
    float last;
    std::memcpy(&last, contents_.data() + contents_.size() - sizeof(last), sizeof(last));
    last = std::nextafter(last, 2 * last);
    std::memcpy(contents_.data() + contents_.size() - sizeof(last), &last, sizeof(last));
    view->data = reinterpret_cast<const std::byte*>(contents_.data());
    return view;
  }
  bool Has(std::string_view name) const override { return source_.Has(name); }
  size_t file_bytes() const override { return source_.file_bytes(); }

  ModelConfig config_value;
  std::string changed_name;

 private:
  const WeightSource& source_;
  mutable std::string contents_;
};

// As a few lines of Python give it. Curves are kept under this name, so that it must never change.
TEST(ModelFingerprint, StaysWhatItIs) {
  const std::string bytes = TinyLlama();
  EXPECT_EQ(Fingerprint(*FromGguf(bytes)), "llama-1x1x4-cb46896c00911eb4");
}

TEST(ModelFingerprint, IsTheSameForTheFolderAndTheGgufMadeOfIt) {
  std::set<std::string> all;
  for (const char* name : {"llama-group3", "llama-llama3-rope", "mistral-wide", "qwen2", "qwen3", "llama-biases"}) {
    const auto folder = OpenWeights(GoldenPath(std::string("models/tiny/") + name));
    ASSERT_TRUE(folder.ok()) << folder.status();
    const std::string fingerprint = Fingerprint(**folder);
    const std::string bytes = ConvertToGguf(**folder);
    EXPECT_EQ(Fingerprint(*FromGguf(bytes)), fingerprint) << name;
    EXPECT_THAT(fingerprint, testing::MatchesRegex("(llama|qwen2|qwen3)-[0-9]+x[0-9]+x[0-9]+-[0-9a-f]{16}"));
    all.insert(fingerprint);
  }
  EXPECT_EQ(all.size(), 6u);
}

TEST(ModelFingerprint, DependsOnEachNormAndOnTheShapeButNotOnOtherTensors) {
  const auto folder = OpenWeights(GoldenPath("models/tiny/llama-group3"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string original = Fingerprint(**folder);
  Changed changed(**folder);
  EXPECT_EQ(Fingerprint(changed), original);
  std::set<std::string> all = {original};
  for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.1.attn_norm.weight"}) {
    changed.changed_name = name;
    EXPECT_TRUE(all.insert(Fingerprint(changed)).second) << name;
  }
  changed.changed_name = "blk.0.attn_q.weight";
  EXPECT_EQ(Fingerprint(changed), original);
  changed.changed_name.clear();
  for (int32_t ModelConfig::*member : {&ModelConfig::n_heads, &ModelConfig::n_kv_heads, &ModelConfig::head_dim,
                                       &ModelConfig::hidden, &ModelConfig::ffn, &ModelConfig::vocabulary}) {
    changed.config_value = (*folder)->config();
    changed.config_value.*member += 2;
    EXPECT_TRUE(all.insert(Fingerprint(changed)).second);
  }
  // What people set when they serve it.
  changed.config_value = (*folder)->config();
  changed.config_value.context_length *= 2;
  changed.config_value.name = "renamed";
  EXPECT_EQ(Fingerprint(changed), original);
}

TEST(ModelFingerprint, AMissingNormIsAnError) {
  const auto folder = OpenWeights(GoldenPath("models/tiny/llama-group3"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  Changed deeper(**folder);
  deeper.config_value.n_layers = 3;
  EXPECT_EQ(ModelFingerprint(deeper).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lukv
