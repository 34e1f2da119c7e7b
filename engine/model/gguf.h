// Reader of GGUF v2/v3 files (the format's specification: ggml docs/gguf.md). The file is mapped; tensors and strings
// are views into the mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace lukv {

// Hostile or damaged files give INVALID_ARGUMENT with the offset or the name at fault; no count in a file is trusted
// before it is checked against the file's size. Immutable after Open, so safe to read from any thread.
class GgufFile {
 public:
  // NOT_FOUND when there is no such file.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // Same from memory that outlives the result (tests, fuzzing).
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::string_view contents);
  ~GgufFile();

  bool Has(std::string_view key) const;
  // NOT_FOUND when the key is missing, INVALID_ARGUMENT when it has another type. Integer types of any width are
  // widened; a value that does not fit is INVALID_ARGUMENT.
  absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  absl::StatusOr<int64_t> GetInt(std::string_view key) const;
  absl::StatusOr<double> GetFloat(std::string_view key) const;  // Also accepts integers.
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  absl::StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> GetInts(std::string_view key) const;
  absl::StatusOr<std::vector<float>> GetFloats(std::string_view key) const;

  // NOT_FOUND by name; UNIMPLEMENTED names a tensor type that lukv does not read.
  absl::StatusOr<TensorView> Tensor(std::string_view name) const;
  bool HasTensor(std::string_view name) const;
  std::vector<std::string_view> TensorNames() const;  // In file order.
  size_t file_bytes() const;
  void LetGo() const;  // See WeightSource.

 private:
  GgufFile();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lukv
