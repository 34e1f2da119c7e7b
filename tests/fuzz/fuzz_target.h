// What libFuzzer calls, and the replay of the seeds, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

// 0: the input was one to learn from.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace lukv {

// A copy without a byte to spare behind it: reading beyond is seen.
inline std::string InputText(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  text.shrink_to_fit();
  return text;
}

}  // namespace lukv
