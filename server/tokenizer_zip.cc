#include "server/tokenizer_zip.h"

#include <zip.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer_files.h"
#include "server/model_class.h"

namespace lukv {
namespace {

using Json = nlohmann::json;

struct File {
  std::string name;
  std::string contents;
};

constexpr const char* kFolderFiles[] = {"tokenizer.json",         "tokenizer_config.json", "config.json",
                                        "generation_config.json", "chat_template.jinja",   "special_tokens_map.json",
                                        "tokenizer.model"};
// The largest tokenizer.json of a public model has 33 MB.
constexpr size_t kMaxFileBytes = 256 << 20;
// Archives of the same files are the same: 1980, where the format's time begins.
constexpr time_t kModified = 315532800;

absl::Status ZipError(zip_error_t* error) {
  return absl::InternalError(absl::StrCat("libzip: ", zip_error_strerror(error)));
}

// The archive in a buffer of libzip's own. `files` must outlive the call.
absl::StatusOr<std::string> Zip(const std::vector<File>& files) {
  zip_error_t error;
  zip_error_init(&error);
  const absl::Cleanup free_error = [&] { zip_error_fini(&error); };
  const std::unique_ptr<zip_source_t, decltype(&zip_source_free)> buffer(
      zip_source_buffer_create(nullptr, 0, 0, &error), &zip_source_free);
  if (buffer == nullptr) return ZipError(&error);
  zip_source_keep(buffer.get());  // Closing the archive frees it once.
  zip_t* archive = zip_open_from_source(buffer.get(), ZIP_TRUNCATE, &error);
  if (archive == nullptr) {
    zip_source_free(buffer.get());
    return ZipError(&error);
  }
  for (const File& file : files) {
    zip_source_t* source = zip_source_buffer(archive, file.contents.data(), file.contents.size(), 0);
    const zip_int64_t index = source != nullptr ? zip_file_add(archive, file.name.c_str(), source, 0) : -1;
    if (index < 0 || zip_file_set_mtime(archive, index, kModified, 0) != 0) {
      if (index < 0) zip_source_free(source);
      const absl::Status status = ZipError(zip_get_error(archive));
      zip_discard(archive);
      return status;
    }
  }
  if (zip_close(archive) != 0) {
    const absl::Status status = ZipError(zip_get_error(archive));
    zip_discard(archive);
    return status;
  }
  zip_stat_t stat;
  if (zip_source_open(buffer.get()) != 0 || zip_source_stat(buffer.get(), &stat) != 0) {
    return ZipError(zip_source_error(buffer.get()));
  }
  std::string bytes(stat.size, '\0');
  if (zip_source_read(buffer.get(), bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size())) {
    return ZipError(zip_source_error(buffer.get()));
  }
  zip_source_close(buffer.get());
  return bytes;
}

std::string GenerationConfig(const Tokenizer& tokenizer) {
  Json config = {{"eos_token_id", tokenizer.end_tokens()}};
  if (tokenizer.bos() >= 0) config["bos_token_id"] = tokenizer.bos();
  return config.dump();
}

void AddRopeScaling(const ModelConfig& config, Json& out) {
  if (config.rope_scaling == RopeScaling::kNone) return;
  Json scaling = {{"factor", config.rope_factor}};
  scaling["rope_type"] = config.rope_scaling == RopeScaling::kLinear ? "linear" : "llama3";
  if (config.rope_scaling == RopeScaling::kLlama3) {
    scaling["low_freq_factor"] = config.rope_low_frequency_factor;
    scaling["high_freq_factor"] = config.rope_high_frequency_factor;
    scaling["original_max_position_embeddings"] = config.rope_original_context;
  }
  out["rope_scaling"] = std::move(scaling);
}

std::string ModelConfigJson(const ModelConfig& config, const Tokenizer& tokenizer) {
  Json out = {{"architectures", Json::array({ModelClass(config.architecture)})},
              {"model_type", config.architecture},
              {"vocab_size", config.vocabulary},
              {"hidden_size", config.hidden},
              {"intermediate_size", config.ffn},
              {"num_hidden_layers", config.n_layers},
              {"num_attention_heads", config.n_heads},
              {"num_key_value_heads", config.n_kv_heads},
              {"head_dim", config.head_dim},
              {"max_position_embeddings", config.context_length},
              {"rms_norm_eps", config.norm_epsilon},
              {"rope_theta", config.rope_base},
              {"tie_word_embeddings", config.tied_embeddings},
              {"eos_token_id", tokenizer.end_tokens()}};
  if (tokenizer.bos() >= 0) out["bos_token_id"] = tokenizer.bos();
  AddRopeScaling(config, out);
  return out.dump();
}

absl::StatusOr<std::vector<File>> FilesOfFolder(const std::filesystem::path& folder) {
  std::vector<File> files;
  for (const char* name : kFolderFiles) {
    std::error_code error;
    if (!std::filesystem::exists(folder / name, error)) continue;
    LUKV_ASSIGN_OR_RETURN(std::string contents, ReadWholeFile((folder / name).string(), kMaxFileBytes));
    files.push_back({name, std::move(contents)});
  }
  return files;
}

absl::StatusOr<std::vector<File>> FilesOfGguf(const std::string& path, const ModelInfo& info,
                                              const Tokenizer& tokenizer) {
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> gguf, GgufFile::Open(path));
  LUKV_ASSIGN_OR_RETURN(TokenizerJsonFiles json, TokenizerJsonOfGguf(*gguf));
  return std::vector<File>{{"tokenizer.json", std::move(json.tokenizer)},
                           {"tokenizer_config.json", std::move(json.tokenizer_config)},
                           {"config.json", ModelConfigJson(info.config, tokenizer)},
                           {"generation_config.json", GenerationConfig(tokenizer)}};
}

}  // namespace

absl::StatusOr<std::string> MakeTokenizerZip(const std::string& path, const ModelInfo& info,
                                             const Tokenizer& tokenizer) {
  std::error_code error;
  const bool folder = std::filesystem::is_directory(path, error);
  LUKV_ASSIGN_OR_RETURN(const std::vector<File> files,
                        folder ? FilesOfFolder(path) : FilesOfGguf(path, info, tokenizer));
  return Zip(files);
}

}  // namespace lukv
