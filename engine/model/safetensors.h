// Reader of safetensors files: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, the data
// (format: huggingface/safetensors, README "Format"). The file is mapped; tensors are views into the mapping.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/mapped_file.h"
#include "kernels/dtype.h"

namespace lukv {

// Immutable after Open, so safe to read from any thread. Hostile or damaged files give INVALID_ARGUMENT.
class SafetensorsFile {
 public:
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  // Same from memory that outlives the result.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Parse(std::string_view contents);

  // NOT_FOUND by name; UNIMPLEMENTED names a dtype other than F32, F16, BF16, or more than two dimensions.
  absl::StatusOr<TensorView> Tensor(std::string_view name) const;
  bool HasTensor(std::string_view name) const { return tensors_.contains(name); }
  std::vector<std::string_view> TensorNames() const;  // Sorted.
  size_t file_bytes() const { return bytes_.size(); }
  void LetGo() const;  // See WeightSource.

 private:
  struct Entry {
    std::string dtype;
    std::vector<int64_t> shape;
    size_t begin = 0;  // In the data section.
    size_t end = 0;
  };

  SafetensorsFile() = default;
  absl::Status Read();
  absl::Status ReadHeader(std::string_view text, size_t data_bytes);
  absl::Status CheckNoOverlap() const;

  std::unique_ptr<MappedFile> file_;  // Null when parsed from the caller's memory.
  std::string_view bytes_;
  std::string_view data_;
  std::map<std::string, Entry, std::less<>> tensors_;
};

}  // namespace lukv
