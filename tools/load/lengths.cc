#include "tools/load/lengths.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lukv {
namespace {

// Longer than any model's context; keeps a heavy tail within an int32_t.
constexpr double kLongest = 1 << 24;

double Normal(Random& random) {
  // Box and Muller; 1 - u is never zero.
  return std::sqrt(-2 * std::log(1 - Unit(random))) * std::cos(2 * std::numbers::pi * Unit(random));
}

}  // namespace

double Unit(Random& random) { return static_cast<double>(random.Bits() >> 11) * 0x1p-53; }

double Exponential(Random& random, double mean) { return -mean * std::log(1 - Unit(random)); }

absl::StatusOr<Lengths> Lengths::Parse(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  Lengths lengths;
  lengths.text_ = text;
  const auto number = [&](size_t i, double& value) { return absl::SimpleAtod(parts[i], &value); };
  const auto length = [&](size_t i, double& value) {
    return number(i, value) && value >= 1 && value <= kLongest && value == std::floor(value);
  };
  bool good = false;
  if (parts.size() == 1) {
    good = length(0, lengths.first_);
  } else if (parts.size() == 3 && parts[0] == "uniform") {
    lengths.kind_ = Kind::kUniform;
    good = length(1, lengths.first_) && length(2, lengths.second_) && lengths.first_ <= lengths.second_;
  } else if (parts.size() == 3 && parts[0] == "lognormal") {
    lengths.kind_ = Kind::kLogNormal;
    good = number(1, lengths.first_) && number(2, lengths.second_) && lengths.first_ >= 1 &&
           lengths.first_ <= kLongest && lengths.second_ >= 0 && lengths.second_ <= 4;
  }
  if (good) return lengths;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no distribution of lengths: TOKENS, uniform:LO:HI or lognormal:MEAN:SIGMA"));
}

int32_t Lengths::Draw(Random& random) const {
  switch (kind_) {
    case Kind::kFixed:
      break;
    case Kind::kUniform:
      return static_cast<int32_t>(random.Between(static_cast<int64_t>(first_), static_cast<int64_t>(second_)));
    case Kind::kLogNormal: {
      const double mu = std::log(first_) - second_ * second_ / 2;
      return static_cast<int32_t>(std::clamp(std::round(std::exp(mu + second_ * Normal(random))), 1.0, kLongest));
    }
  }
  return static_cast<int32_t>(first_);
}

}  // namespace lukv
