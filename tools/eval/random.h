// Random choices that are the same with every compiler and library: the standard's distributions are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/fnv.h"

namespace lukv {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  // A stream of its own for each name under one seed.
  Random(uint64_t seed, std::string_view name) : engine_(Mix(seed, name)) {}

  uint64_t Bits() { return engine_(); }
  // In [0, n). The bias of the remainder is below n / 2^64.
  size_t Below(size_t n) {
    LUKV_CHECK(n > 0);
    return static_cast<size_t>(engine_() % n);
  }
  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<size_t>(high - low + 1)));
  }

  template <typename T>
  void Shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[Below(i)]);
  }

 private:
  static uint64_t Mix(uint64_t seed, std::string_view name) {
    Fnv1a64 hash;
    hash.Add(seed);
    hash.AddText(name);
    return hash.value();
  }

  std::mt19937_64 engine_;
};

}  // namespace lukv
