#include "engine/model/checked_json.h"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/quoted.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

constexpr size_t kMaxDepth = 32;

// A first pass over the events that keeps nothing but the open objects' names.
class Checker : public nlohmann::json_sax<nlohmann::json> {
 public:
  absl::Status status() const { return status_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    if (open_.back().insert(name).second) return true;
    status_ = absl::InvalidArgumentError(StrCat("the name ", Quoted(name), " is there twice in one object"));
    return false;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    status_ = absl::InvalidArgumentError(StrCat("not valid JSON at byte ", position));
    return false;
  }

 private:
  bool Open() {
    open_.emplace_back();
    if (open_.size() <= kMaxDepth) return true;
    status_ = absl::InvalidArgumentError(StrCat("JSON nested more than ", kMaxDepth, " deep"));
    return false;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  absl::Status status_;
  std::vector<std::set<std::string>> open_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseCheckedJson(std::string_view text) {
  Checker checker;
  if (!nlohmann::json::sax_parse(text, &checker)) return checker.status();
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace lukv
