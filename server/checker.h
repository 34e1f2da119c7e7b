// Collects what is wrong with a request.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/tokenizer.h"
#include "server/grpc_status.h"

namespace lukv {

// Each check says what it got and what is allowed.
class Checker {
 public:
  void Require(bool ok, std::string field, const std::string& got, const std::string& allowed) {
    if (!ok) violations_.push_back({std::move(field), absl::StrCat("got ", got, "; allowed is ", allowed)});
  }

  void Add(std::string field, std::string description) {
    violations_.push_back({std::move(field), std::move(description)});
  }

  // An optional float with the default that `value` has. The bounds are closed; NaN is outside of them.
  void Float(const char* field, bool given, float input, float low, float high, const char* allowed, float& value) {
    if (!given) return;
    Require(input >= low && input <= high && std::isfinite(input), field, absl::StrCat(input), allowed);
    value = input;
  }

  // The first id outside of the vocabulary is reported; a list of wrong ids is wrong in one way.
  template <typename Ids>
  void TokenIds(const Ids& ids, const std::string& field, const Tokenizer& tokenizer) {
    for (int i = 0; i < ids.size(); ++i) {
      if (ids[i] >= 0 && ids[i] < tokenizer.vocabulary()) continue;
      Require(false, absl::StrCat(field, "[", i, "]"), absl::StrCat(ids[i]), VocabularyRange(tokenizer));
      return;
    }
  }

  static std::string VocabularyRange(const Tokenizer& tokenizer) {
    return absl::StrCat("0 to ", tokenizer.vocabulary() - 1, " (the vocabulary)");
  }

  bool ok() const { return violations_.empty(); }
  std::vector<FieldViolation> Take() { return std::move(violations_); }

 private:
  std::vector<FieldViolation> violations_;
};

}  // namespace lukv
