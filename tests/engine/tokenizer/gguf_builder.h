// Writes GGUF files of metadata alone, right or wrong.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lukv {

class GgufBuilder {
 public:
  GgufBuilder& String(std::string_view key, std::string_view value) {
    Key(key, 8);
    Text(value);
    return *this;
  }
  GgufBuilder& Uint32(std::string_view key, uint32_t value) {
    Key(key, 4);
    Number(value, 4);
    return *this;
  }
  GgufBuilder& Bool(std::string_view key, bool value) {
    Key(key, 7);
    Number(value ? 1 : 0, 1);
    return *this;
  }
  GgufBuilder& Strings(std::string_view key, const std::vector<std::string>& values) {
    Array(key, 8, values.size());
    for (const std::string& value : values) Text(value);
    return *this;
  }
  GgufBuilder& Int32s(std::string_view key, const std::vector<int32_t>& values) {
    Array(key, 5, values.size());
    for (const int32_t value : values) Number(static_cast<uint32_t>(value), 4);
    return *this;
  }
  GgufBuilder& Floats(std::string_view key, const std::vector<float>& values) {
    Array(key, 6, values.size());
    for (const float value : values) Number(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }

  std::string Build() const {
    GgufBuilder head;
    head.bytes_ = "GGUF";
    head.Number(3, 4);       // Version.
    head.Number(0, 8);       // Tensors.
    head.Number(count_, 8);  // Keys.
    return head.bytes_ + bytes_;
  }

 private:
  void Number(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }
  void Text(std::string_view text) {
    Number(text.size(), 8);
    bytes_ += text;
  }
  void Key(std::string_view key, uint32_t type) {
    Text(key);
    Number(type, 4);
    ++count_;
  }
  void Array(std::string_view key, uint32_t type, size_t size) {
    Key(key, 9);
    Number(type, 4);
    Number(size, 8);
  }

  std::string bytes_;
  uint64_t count_ = 0;
};

}  // namespace lukv
