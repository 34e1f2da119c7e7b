#include "server/tokenizer_zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zip.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/engine/tokenizer/goldens.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::Pair;

// What is in an archive, by name.
std::map<std::string, std::string> Unzip(const std::string& bytes) {
  std::map<std::string, std::string> files;
  zip_error_t error;
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  zip_t* archive = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
  if (archive == nullptr) {
    ADD_FAILURE() << zip_error_strerror(&error);
    zip_source_free(source);
    return files;
  }
  for (zip_int64_t i = 0; i < zip_get_num_entries(archive, 0); ++i) {
    zip_stat_t stat;
    zip_stat_index(archive, i, 0, &stat);
    std::string contents(stat.size, '\0');
    zip_file_t* file = zip_fopen_index(archive, i, 0);
    EXPECT_EQ(zip_fread(file, contents.data(), contents.size()), static_cast<zip_int64_t>(contents.size()));
    zip_fclose(file);
    files[stat.name] = contents;
  }
  zip_close(archive);
  return files;
}

TEST(TokenizerZip, OfAFolderHasItsOwnFiles) {
  TempFolder folder;
  const std::string tokenizer = ReadGolden("gpt2/tokenizer.json");
  folder.Write("tokenizer.json", tokenizer)
      .Write("config.json", "{\"a\": 1}")
      .Write("generation_config.json", "{}")
      .Write("model.safetensors", "weights");
  const auto loaded = LoadTokenizer(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto zip = MakeTokenizerZip(folder.path(), ModelInfo(), **loaded);
  ASSERT_TRUE(zip.ok()) << zip.status();
  EXPECT_THAT(Unzip(*zip), ElementsAre(Pair("config.json", "{\"a\": 1}"), Pair("generation_config.json", "{}"),
                                       Pair("tokenizer.json", tokenizer)));
  EXPECT_EQ(*MakeTokenizerZip(folder.path(), ModelInfo(), **loaded), *zip) << "the same bytes each time";
}

TEST(TokenizerZip, OfAGgufIsMadeFromItsMetadata) {
  TempFolder folder;
  GgufBuilder builder = GgufOf(nlohmann::json::parse(ReadGolden("llama-bpe/tokenizer.json")), "llama-bpe");
  builder.String("tokenizer.chat_template", "{{ messages }}");
  folder.Write("model.gguf", builder.Build());
  const std::string path = folder.path() + "/model.gguf";
  const auto loaded = LoadTokenizer(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ModelInfo info;
  info.config.architecture = "qwen2";
  info.config.n_layers = 3;
  info.config.context_length = 4096;
  info.config.rope_scaling = RopeScaling::kLlama3;
  info.config.rope_factor = 8;
  const auto zip = MakeTokenizerZip(path, info, **loaded);
  ASSERT_TRUE(zip.ok()) << zip.status();
  std::map<std::string, std::string> files = Unzip(*zip);
  ASSERT_EQ(files.size(), 4u);
  const auto config = nlohmann::json::parse(files["config.json"]);
  EXPECT_EQ(config["model_type"], "qwen2");
  EXPECT_EQ(config["architectures"][0], "Qwen2ForCausalLM");
  EXPECT_EQ(config["num_hidden_layers"], 3);
  EXPECT_EQ(config["max_position_embeddings"], 4096);
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(config["rope_scaling"]["factor"], 8);
  const auto generation = nlohmann::json::parse(files["generation_config.json"]);
  EXPECT_EQ(generation["eos_token_id"].get<std::vector<TokenId>>(), (*loaded)->end_tokens());
  EXPECT_EQ(generation["bos_token_id"], (*loaded)->bos());
  EXPECT_EQ(nlohmann::json::parse(files["tokenizer_config.json"])["chat_template"], "{{ messages }}");

  // And it is the same model for whoever has only the archive.
  TempFolder copy;
  for (const auto& [name, contents] : files) copy.Write(name, contents);
  const auto again = LoadTokenizer(copy.path());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->end_tokens(), (*loaded)->end_tokens());
  EXPECT_EQ((*again)->chat_template(), "{{ messages }}");
  EXPECT_EQ((*again)->adds_bos(), (*loaded)->adds_bos());
}

TEST(TokenizerZip, SaysWhatIsMissing) {
  EXPECT_FALSE(MakeTokenizerZip("/nowhere/model.gguf", ModelInfo(), FakeTokenizer()).ok());
}

}  // namespace
}  // namespace lukv
