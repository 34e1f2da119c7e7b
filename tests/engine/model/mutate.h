// Damage to a file, seeded: what a bad disk, a cut download or an attacker might do to it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>

namespace lukv {

// A copy that ends exactly where its memory ends, so that AddressSanitizer sees a read past the end.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view bytes) : data_(new char[bytes.size()]), size_(bytes.size()) {
    if (size_ > 0) std::memcpy(data_.get(), bytes.data(), size_);
  }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_;
};

// One to four changes of `file`. REQUIRES: file.size() >= 16.
inline std::string Mutate(std::string file, std::mt19937_64& rng) {
  constexpr uint64_t kNumbers[] = {0,
                                   1,
                                   2,
                                   31,
                                   255,
                                   65535,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   0x100000000,
                                   0x1fffffffffffffff,
                                   0x7fffffffffffffff,
                                   0x8000000000000000,
                                   0xfffffffffffffff0,
                                   0xffffffffffffffff};
  const auto below = [&rng](size_t n) { return static_cast<size_t>(rng() % n); };
  const size_t changes = 1 + below(4);
  for (size_t i = 0; i < changes && file.size() >= 16; ++i) {
    const size_t at = below(file.size());
    switch (below(7)) {
      case 0:
        file[at] = static_cast<char>(rng());
        break;
      case 1:
        file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
        break;
      case 2:
      case 3: {  // A length, count or offset.
        const uint64_t number = kNumbers[below(std::size(kNumbers))];
        const size_t width = below(2) == 0 ? 4 : 8;
        std::memcpy(file.data() + std::min(at, file.size() - width), &number, width);
        break;
      }
      case 4:
        file.resize(at);
        break;
      case 5:
        file.erase(at, 1 + below(16));
        break;
      case 6:
        file.insert(at, file, below(file.size()), 1 + below(32));
        break;
    }
  }
  return file;
}

}  // namespace lukv
