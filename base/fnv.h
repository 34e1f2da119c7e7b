// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv): a name for contents that nobody forges. Not for secrets.
#pragma once

#include <cstdint>
#include <string_view>

namespace lukv {

class Fnv1a64 {
 public:
  void AddBytes(std::string_view bytes) {
    for (const char c : bytes) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  }
  // The 8 bytes of the value, lowest first, on any machine.
  void Add(uint64_t value) {
    for (int i = 0; i < 8; ++i) state_ = (state_ ^ (value >> (8 * i) & 0xff)) * 0x100000001b3u;
  }
  // A text with its length, so that ("ab", "c") and ("a", "bc") differ.
  void AddText(std::string_view text) {
    Add(text.size());
    AddBytes(text);
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

}  // namespace lukv
