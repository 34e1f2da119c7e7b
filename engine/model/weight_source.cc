#include "engine/model/weight_source.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/model/gguf_weights.h"
#include "engine/model/hf_folder.h"
#include "engine/model/mapped_file.h"

namespace lukv {

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return WeightsFromHfFolder(path);
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  auto weights = WeightsFromGguf(std::move(file), std::filesystem::path(path).stem().string());
  if (!weights.ok()) return Prefixed(weights.status(), path);
  return weights;
}

}  // namespace lukv
