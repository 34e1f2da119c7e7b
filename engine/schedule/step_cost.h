// What the parts of a step take, learnt from what they took. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace lukv {

// A piece of work: a decode step, or a unit of a prefill.
struct Work {
  enum class Kind : uint8_t { kDecode, kContext, kCompact, kQuestion };
  Kind kind = Kind::kDecode;
  double rows = 0;     // Tokens that go through it.
  double entries = 0;  // (token, cache entry) pairs that attention goes over, per layer and head.
};

// Time of each kind of work as a + b * rows + c * entries, by recursive least squares with forgetting (Ljung, System
// Identification, 1999, 11.2), so that it follows a machine whose speed changes.
class StepCost {
 public:
  void Observe(const Work& work, absl::Duration took);
  // What it will take; zero until the first of its kind was seen. Never negative.
  absl::Duration Expect(const Work& work) const;
  bool knows(Work::Kind kind) const { return fits_[static_cast<size_t>(kind)].seen > 0; }

 private:
  static constexpr int kTerms = 3;
  using Vector = std::array<double, kTerms>;
  struct Fit {
    int64_t seen = 0;
    Vector weight{};
    std::array<Vector, kTerms> covariance{};
  };
  static Vector Terms(const Work& work);
  static double Predict(const Fit& fit, const Vector& terms);

  std::array<Fit, 4> fits_;
};

}  // namespace lukv
