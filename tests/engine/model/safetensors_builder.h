// Writes safetensors files in memory, also wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lukv {

// A header as it stands, and data.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file.append(header).append(data);
}

class SafetensorsBuilder {
 public:
  SafetensorsBuilder& Add(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape,
                          std::string_view bytes) {
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
    return *this;
  }
  // F32 values that differ from one another.
  SafetensorsBuilder& AddF32(const std::string& name, const std::vector<uint64_t>& shape) {
    uint64_t elements = 1;
    for (const uint64_t dim : shape) elements *= dim;
    std::string bytes(4 * elements, '\0');
    for (uint64_t i = 0; i < elements; ++i) {
      const float value = 0.01f * static_cast<float>(i % 97) - 0.4f;
      std::memcpy(bytes.data() + 4 * i, &value, sizeof(value));
    }
    return Add(name, "F32", shape, bytes);
  }
  void Remove(const std::string& name) { header_.erase(name); }
  std::string Build() const { return SafetensorsBytes(header_.dump(), data_); }

 private:
  nlohmann::json header_ = {{"__metadata__", {{"format", "pt"}}}};
  std::string data_;
};

}  // namespace lukv
