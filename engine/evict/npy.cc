#include "engine/evict/npy.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied as they lie in the file");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kPreamble = 10;  // Magic, version, length of the header.
constexpr size_t kMaxDims = 32;   // NumPy's own limit.
constexpr std::string_view kDescr = "<f4";
constexpr std::string_view kDoubleDescr = "<f8";  // Read only: what NumPy's means are, unless told otherwise.

// The header is a Python dict literal of three entries: descr, fortran_order, shape. Only that much Python is read.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<int64_t>> Parse() {
    LUKV_RETURN_IF_ERROR(Expect('{'));
    while (!Take('}')) {
      LUKV_RETURN_IF_ERROR(Entry());
      if (!Take(',')) {
        LUKV_RETURN_IF_ERROR(Expect('}'));
        break;
      }
    }
    SkipSpace();
    if (at_ != text_.size()) return Damaged("holds more than the dict");
    if (!has_descr_ || !has_order_ || !has_shape_) {
      return Damaged(StrCat("lacks \"", !has_descr_ ? "descr" : !has_order_ ? "fortran_order" : "shape", "\""));
    }
    return shape_;
  }

  // Of the values. REQUIRES: Parse was OK.
  size_t value_bytes() const { return is_double_ ? sizeof(double) : sizeof(float); }

 private:
  absl::Status Damaged(std::string_view what) const {
    return absl::InvalidArgumentError(StrCat("the npy header ", what, " (at its byte ", at_, ")"));
  }

  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  absl::Status Expect(char c) {
    if (Take(c)) return absl::OkStatus();
    return Damaged(StrCat("has no '", std::string(1, c), "' where one must be"));
  }

  absl::StatusOr<std::string_view> String() {
    SkipSpace();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"'))
      return Damaged("has no string where one must be");
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return Damaged("has a string without an end");
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return value;
  }

  absl::Status Entry() {
    LUKV_ASSIGN_OR_RETURN(const std::string_view key, String());
    bool* const seen = key == "descr" ? &has_descr_ : key == "fortran_order" ? &has_order_ : &has_shape_;
    if (seen == &has_shape_ && key != "shape") return Damaged(StrCat("has an unknown entry ", Quoted(key)));
    if (*seen) return Damaged(StrCat("has two entries ", Quoted(key)));
    *seen = true;
    LUKV_RETURN_IF_ERROR(Expect(':'));
    if (seen == &has_descr_) return Descr();
    if (seen == &has_order_) return Order();
    return Shape();
  }

  absl::Status Descr() {
    // Structured types have a list here.
    LUKV_ASSIGN_OR_RETURN(const std::string_view descr, String());
    is_double_ = descr == kDoubleDescr;
    if (descr == kDescr || is_double_) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat("the npy array is of type ", Quoted(descr), "; only \"", kDescr,
                                             "\" and \"", kDoubleDescr, "\" (floats) are read"));
  }

  absl::Status Order() {
    SkipSpace();
    if (text_.substr(at_).starts_with("False")) {
      at_ += 5;
      return absl::OkStatus();
    }
    if (text_.substr(at_).starts_with("True")) {
      return absl::InvalidArgumentError("the npy array is in Fortran order; only C order is read");
    }
    return Damaged("has a fortran_order that is neither True nor False");
  }

  absl::Status Shape() {
    LUKV_RETURN_IF_ERROR(Expect('('));
    while (!Take(')')) {
      if (shape_.size() == kMaxDims) return Damaged(StrCat("has more than ", kMaxDims, " dimensions"));
      SkipSpace();
      int64_t dim = 0;
      const char* const begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), dim);
      if (error != std::errc() || dim < 0) return Damaged("has a dimension that is no count");
      at_ += static_cast<size_t>(end - begin);
      shape_.push_back(dim);
      if (!Take(',')) {
        // "(5)" is a number in Python, not a tuple.
        if (shape_.size() == 1) return Damaged("has a shape that is no tuple");
        LUKV_RETURN_IF_ERROR(Expect(')'));
        break;
      }
    }
    return absl::OkStatus();
  }

  const std::string_view text_;
  size_t at_ = 0;
  bool has_descr_ = false;
  bool has_order_ = false;
  bool has_shape_ = false;
  bool is_double_ = false;
  std::vector<int64_t> shape_;
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t dim : shape) absl::StrAppend(&text, dim, ", ");
  // NumPy writes "(5,)" and "(5, 6)".
  if (shape.size() == 1) text.pop_back();
  if (shape.size() > 1) text.resize(text.size() - 2);
  return text + ")";
}

// Values of an array of this shape, or limit + 1 if they are more.
size_t CountOf(const std::vector<int64_t>& shape, size_t limit) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  size_t count = 1;
  for (const int64_t dim : shape) {
    if (count > limit / static_cast<size_t>(dim)) return limit + 1;
    count *= static_cast<size_t>(dim);
  }
  return count;
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(std::string_view file) {
  if (!file.starts_with(kMagic)) return absl::InvalidArgumentError("not an npy file");
  if (file.size() < kPreamble) return absl::InvalidArgumentError("the npy file ends inside its header");
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(file[i]); };
  if (byte(6) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("npy version ", int{byte(6)}, ".", int{byte(7)}, " is not supported; only 1.0 is"));
  }
  const size_t header_bytes = byte(8) + (size_t{byte(9)} << 8);
  if (header_bytes > file.size() - kPreamble) return absl::InvalidArgumentError("the npy file ends inside its header");
  NpyArray array;
  HeaderParser header(file.substr(kPreamble, header_bytes));
  LUKV_ASSIGN_OR_RETURN(array.shape, header.Parse());

  const std::string_view data = file.substr(kPreamble + header_bytes);
  const size_t value_bytes = header.value_bytes();
  const size_t there = data.size() / value_bytes;
  const size_t count = CountOf(array.shape, there);
  if (count != there || data.size() % value_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the npy shape ", ShapeText(array.shape), " of ", 8 * value_bytes,
                                                   "-bit floats is not ", data.size(), " bytes, which are there"));
  }
  array.values.resize(count);
  if (value_bytes == sizeof(float)) {
    if (count > 0) std::memcpy(array.values.data(), data.data(), data.size());
    return array;
  }
  for (size_t i = 0; i < count; ++i) {
    double value;
    std::memcpy(&value, data.data() + i * sizeof(double), sizeof(double));
    array.values[i] = static_cast<float>(value);
  }
  return array;
}

std::string SerializeNpy(const NpyArray& array) {
  size_t count = 1;
  for (const int64_t dim : array.shape) count *= static_cast<size_t>(dim);
  LUKV_CHECK(count == array.values.size());
  std::string header =
      StrCat("{'descr': '", kDescr, "', 'fortran_order': False, 'shape': ", ShapeText(array.shape), ", }");
  // NumPy aligns the values to 64 bytes; the header ends in a line break.
  while ((kPreamble + header.size() + 1) % 64 != 0) header.push_back(' ');
  header.push_back('\n');
  LUKV_CHECK(header.size() <= 0xffff);

  std::string file(kMagic);
  file += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  file += header;
  file.append(reinterpret_cast<const char*>(array.values.data()), array.values.size() * sizeof(float));
  return file;
}

}  // namespace lukv
