// How long prompts and outputs are.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tools/eval/random.h"

namespace lukv {

class Lengths {
 public:
  // "1000"; "uniform:LO:HI", both ends included; "lognormal:MEAN:SIGMA": MEAN is that of the lengths, SIGMA that of
  // their logarithms. INVALID_ARGUMENT: none of these, or a length below 1.
  static absl::StatusOr<Lengths> Parse(const std::string& text);

  // At least 1.
  int32_t Draw(Random& random) const;
  // As it was written.
  const std::string& text() const { return text_; }

 private:
  enum class Kind : uint8_t { kFixed, kUniform, kLogNormal };

  std::string text_;
  Kind kind_ = Kind::kFixed;
  double first_ = 0;  // The length; the least one; the mean.
  double second_ = 0;
};

// In [0, 1), with all the bits that a double has.
double Unit(Random& random);
// Of an exponential distribution with this mean.
double Exponential(Random& random, double mean);

}  // namespace lukv
