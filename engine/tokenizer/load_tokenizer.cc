#include <filesystem>
#include <memory>
#include <string>

#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  return TokenizerFromGguf(*file);
}

}  // namespace lukv
