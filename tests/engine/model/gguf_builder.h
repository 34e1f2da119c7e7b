// Writes GGUF files in memory, also wrong ones: each field that the writer would get right can be overridden.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace lukv {

// Numbers of value types and tensor types in the file format.
enum GgufValueNumber : uint32_t { kGgufUint32 = 4, kGgufString = 8, kGgufArray = 9 };
enum GgufTensorNumber : uint32_t { kGgufF32 = 0, kGgufF16 = 1, kGgufQ5_0 = 6, kGgufQ8_0 = 8, kGgufBF16 = 30 };

template <typename T>
std::string Bytes(const T& value) {
  static_assert(std::is_arithmetic_v<T>);
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string GgufStringBytes(std::string_view text) {
  return Bytes(static_cast<uint64_t>(text.size())) + std::string(text);
}

template <typename T>
constexpr uint32_t GgufTypeNumber() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, uint64_t>) return 10;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

class GgufBuilder {
 public:
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;                 // Of what is written; the file says it only through general.alignment.
  std::optional<uint64_t> n_values_claim;  // Instead of the true counts.
  std::optional<uint64_t> n_tensors_claim;

  template <typename T>
  GgufBuilder& Add(std::string_view key, T value) {
    return AddRaw(key, GgufTypeNumber<T>(), Bytes(value));
  }
  GgufBuilder& AddString(std::string_view key, std::string_view value) {
    return AddRaw(key, kGgufString, GgufStringBytes(value));
  }
  template <typename T>
  GgufBuilder& AddArray(std::string_view key, const std::vector<T>& values) {
    std::string payload = Bytes(GgufTypeNumber<T>()) + Bytes(static_cast<uint64_t>(values.size()));
    for (const T value : values) payload += Bytes(value);
    return AddRaw(key, kGgufArray, payload);
  }
  GgufBuilder& AddStrings(std::string_view key, const std::vector<std::string>& values) {
    std::string payload = Bytes(uint32_t{kGgufString}) + Bytes(static_cast<uint64_t>(values.size()));
    for (const std::string& value : values) payload += GgufStringBytes(value);
    return AddRaw(key, kGgufArray, payload);
  }
  GgufBuilder& AddRaw(std::string_view key, uint32_t type, std::string_view payload) {
    values_.push_back(GgufStringBytes(key) + Bytes(type) + std::string(payload));
    return *this;
  }

  // `dims` innermost first, as in the file.
  GgufBuilder& AddTensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& dims,
                         std::string_view data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    AddTensorEntry(name, type, dims, data_.size());
    data_ += data;
    return *this;
  }
  // An entry without data of its own.
  GgufBuilder& AddTensorEntry(std::string_view name, uint32_t type, const std::vector<uint64_t>& dims,
                              uint64_t offset) {
    std::string entry = GgufStringBytes(name) + Bytes(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) entry += Bytes(dim);
    tensors_.push_back(entry + Bytes(type) + Bytes(offset));
    return *this;
  }

  std::string Build() const {
    std::string file = magic + Bytes(version) + Bytes(n_tensors_claim.value_or(tensors_.size())) +
                       Bytes(n_values_claim.value_or(values_.size()));
    for (const std::string& value : values_) file += value;
    for (const std::string& tensor : tensors_) file += tensor;
    if (tensors_.empty()) return file;
    file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
    return file + data_;
  }

 private:
  std::vector<std::string> values_;
  std::vector<std::string> tensors_;
  std::string data_;
};

}  // namespace lukv
