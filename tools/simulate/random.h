// Numbers that look random and are the same everywhere for the same seed. The standard library's distributions differ
// between libraries, so none of them is used.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <iterator>

namespace lukv {

// One number out of two; a change of either changes about half of the bits. (SplitMix64's finaliser, Steele et al.
// 2014.)
constexpr uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u + (b ^ 0x2545f4914f6cdd1du);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}

  uint64_t Next() { return Mix(seed_, ++count_); }
  // [low, high]
  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(Next() % (static_cast<uint64_t>(high - low) + 1));
  }
  // [0, 1)
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double probability) { return Unit() < probability; }
  // Mean 1.
  double Exponential() { return -std::log(1 - Unit()); }
  template <typename T>
  T OneOf(std::initializer_list<T> values) {
    return *std::next(values.begin(), Between(0, static_cast<int32_t>(values.size()) - 1));
  }
  // An independent source for a part of the work.
  Random Fork() { return Random(Next()); }

 private:
  uint64_t seed_;
  uint64_t count_ = 0;
};

}  // namespace lukv
