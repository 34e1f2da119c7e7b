#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_files.h"

namespace lukv {
namespace {

// The largest tokenizer.json of a public model has 33 MB.
constexpr std::uintmax_t kMaxFileBytes = 256u << 20;

absl::Status Annotate(const absl::Status& status, const std::filesystem::path& path) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path.string(), ": ", status.message()));
}

// nullopt when there is no such file.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error == std::errc::no_such_file_or_directory) return std::nullopt;
  if (error) return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), " has ", size, " bytes, at most ", kMaxFileBytes, " are read"));
  }
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return absl::InvalidArgumentError(absl::StrCat(path.string(), " cannot be opened"));
  const absl::Cleanup close = [file] { std::fclose(file); };
  std::string contents(size, '\0');
  if (std::fread(contents.data(), 1, size, file) != size) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " cannot be read"));
  }
  return contents;
}

absl::StatusOr<TokenizerData> ReadModel(const std::filesystem::path& folder) {
  using Parser = absl::StatusOr<TokenizerData> (*)(std::string_view);
  static constexpr std::pair<const char*, Parser> kModels[] = {{"tokenizer.json", ParseTokenizerJson},
                                                               {"tokenizer.model", ParseSentencePieceModel}};
  for (const auto& [name, parse] : kModels) {
    LUKV_ASSIGN_OR_RETURN(const std::optional<std::string> contents, ReadIfThere(folder / name));
    if (!contents) continue;
    absl::StatusOr<TokenizerData> data = parse(*contents);
    if (!data.ok()) return Annotate(data.status(), folder / name);
    return data;
  }
  return absl::NotFoundError(absl::StrCat(folder.string(), " has neither tokenizer.json nor tokenizer.model"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadFolder(const std::filesystem::path& folder) {
  LUKV_ASSIGN_OR_RETURN(TokenizerData data, ReadModel(folder));
  LUKV_ASSIGN_OR_RETURN(const auto config, ReadIfThere(folder / "tokenizer_config.json"));
  if (config) LUKV_RETURN_IF_ERROR(Annotate(ApplyTokenizerConfig(*config, data), folder / "tokenizer_config.json"));
  // What a model ends with stands in generation_config.json; older folders have it in config.json alone.
  for (const char* name : {"generation_config.json", "config.json"}) {
    LUKV_ASSIGN_OR_RETURN(const auto generation, ReadIfThere(folder / name));
    if (!generation) continue;
    LUKV_RETURN_IF_ERROR(Annotate(AddEndTokens(*generation, data), folder / name));
    break;
  }
  LUKV_ASSIGN_OR_RETURN(auto chat_template, ReadIfThere(folder / "chat_template.jinja"));
  if (chat_template) data.chat_template = *std::move(chat_template);
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = MakeTokenizer(std::move(data));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), folder);
  return tokenizer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return LoadFolder(path);
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = TokenizerFromGguf(*file);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
  return tokenizer;
}

}  // namespace lukv
