#include "engine/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/checked_json.h"

namespace lukv {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian and read in place");

// The format's own limit (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct ElementType {
  std::string_view name;
  size_t bytes;
  std::optional<DType> dtype;  // Empty: known by name and size only.
};

constexpr ElementType kElementTypes[] = {
    {"F32", 4, DType::kF32},      {"F16", 2, DType::kF16},      {"BF16", 2, DType::kBF16}, {"F64", 8, std::nullopt},
    {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt}, {"I64", 8, std::nullopt},  {"I32", 4, std::nullopt},
    {"I16", 2, std::nullopt},     {"I8", 1, std::nullopt},      {"U64", 8, std::nullopt},  {"U32", 4, std::nullopt},
    {"U16", 2, std::nullopt},     {"U8", 1, std::nullopt},      {"BOOL", 1, std::nullopt},
};

const ElementType* FindElementType(std::string_view name) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

// An array of `count` (any if empty) whole numbers that fit int64_t.
std::optional<std::vector<int64_t>> ReadNumbers(const json& entry, const char* key, std::optional<size_t> count) {
  const auto it = entry.find(key);
  if (it == entry.end() || !it->is_array() || (count.has_value() && it->size() != *count)) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const json& item : *it) {
    if (!item.is_number_unsigned() || !std::in_range<int64_t>(item.get<uint64_t>())) return std::nullopt;
    numbers.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return numbers;
}

// Whether the product of the dimensions times `element_bytes` is exactly `bytes`.
absl::Status CheckSize(std::string_view name, const std::vector<int64_t>& shape, size_t element_bytes, size_t bytes) {
  size_t product = element_bytes;
  for (const int64_t dim : shape) {
    if (dim == 0) return absl::InvalidArgumentError(StrCat("tensor ", Quoted(name), " has a dimension of 0"));
    if (static_cast<size_t>(dim) > bytes / product) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", Quoted(name), " has a shape that needs more than its ", bytes, " bytes"));
    }
    product *= static_cast<size_t>(dim);
  }
  if (product != bytes) {
    return absl::InvalidArgumentError(
        StrCat("tensor ", Quoted(name), " has a shape that needs ", product, " bytes, but data_offsets give ", bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  std::unique_ptr<SafetensorsFile> result(new SafetensorsFile());
  LUKV_ASSIGN_OR_RETURN(result->file_, MappedFile::Open(path));
  result->bytes_ = result->file_->contents();
  LUKV_RETURN_IF_ERROR(Prefixed(result->Read(), path));
  return result;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Parse(std::string_view contents) {
  std::unique_ptr<SafetensorsFile> result(new SafetensorsFile());
  result->bytes_ = contents;
  LUKV_RETURN_IF_ERROR(result->Read());
  return result;
}

absl::Status SafetensorsFile::Read() {
  uint64_t header_bytes = 0;
  if (bytes_.size() < sizeof(header_bytes)) {
    return absl::InvalidArgumentError(
        StrCat("not a safetensors file: ", bytes_.size(), " bytes, too short for the header's length"));
  }
  std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
  const std::string_view rest = bytes_.substr(sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(StrCat("not a safetensors file: a header of ", header_bytes,
                                             " bytes, more than the format's limit of ", kMaxHeaderBytes));
  }
  if (header_bytes > rest.size()) {
    return absl::InvalidArgumentError(
        StrCat("the file ends inside the header: ", header_bytes, " bytes needed, ", rest.size(), " left"));
  }
  data_ = rest.substr(header_bytes);
  LUKV_RETURN_IF_ERROR(Prefixed(ReadHeader(rest.substr(0, header_bytes), data_.size()), "safetensors header"));
  return CheckNoOverlap();
}

absl::Status SafetensorsFile::ReadHeader(std::string_view text, size_t data_bytes) {
  LUKV_ASSIGN_OR_RETURN(const json header, ParseCheckedJson(text));
  if (!header.is_object()) return absl::InvalidArgumentError("is not a JSON object");
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (!entry.is_object())
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(name), " is not described by an object"));
    const auto dtype = entry.find("dtype");
    if (dtype == entry.end() || !dtype->is_string()) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(name), " has no dtype"));
    }
    auto shape = ReadNumbers(entry, "shape", std::nullopt);
    if (!shape.has_value())
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(name), " has no shape of whole numbers"));
    const auto offsets = ReadNumbers(entry, "data_offsets", 2);
    if (!offsets.has_value()) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(name), " has no data_offsets of two whole numbers"));
    }
    const auto begin = static_cast<size_t>((*offsets)[0]);
    const auto end = static_cast<size_t>((*offsets)[1]);
    if (begin > end || end > data_bytes) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", Quoted(name), " lies at [", begin, ", ", end, ") of ", data_bytes, " bytes of data"));
    }
    if (const ElementType* type = FindElementType(dtype->get_ref<const std::string&>()); type != nullptr) {
      LUKV_RETURN_IF_ERROR(CheckSize(name, *shape, type->bytes, end - begin));
    }
    tensors_.emplace(name, Entry{dtype->get<std::string>(), *std::move(shape), begin, end});
  }
  return absl::OkStatus();
}

absl::Status SafetensorsFile::CheckNoOverlap() const {
  std::vector<const std::pair<const std::string, Entry>*> order;
  for (const auto& item : tensors_) {
    if (item.second.end > item.second.begin) order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->second.begin < b->second.begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->second.begin < order[i - 1]->second.end) {
      return absl::InvalidArgumentError(StrCat("safetensors header: ", "tensors ", Quoted(order[i - 1]->first), " and ",
                                               Quoted(order[i]->first), " overlap"));
    }
  }
  return absl::OkStatus();
}

void SafetensorsFile::LetGo() const {
  if (file_ != nullptr) file_->LetGo();
}

absl::StatusOr<TensorView> SafetensorsFile::Tensor(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) return absl::NotFoundError(StrCat("tensor ", Quoted(name), " is missing"));
  const Entry& entry = it->second;
  const ElementType* type = FindElementType(entry.dtype);
  if (type == nullptr || !type->dtype.has_value()) {
    return absl::UnimplementedError(
        StrCat("tensor ", Quoted(name), " is of dtype ", Quoted(entry.dtype), "; supported are F32, F16, BF16"));
  }
  if (entry.shape.size() > 2) {
    return absl::UnimplementedError(
        StrCat("tensor ", Quoted(name), " has ", entry.shape.size(), " dimensions; only matrices are supported"));
  }
  return TensorView{.dtype = *type->dtype,
                    .rows = entry.shape.size() == 2 ? entry.shape[0] : 1,
                    .cols = entry.shape.empty() ? 1 : entry.shape.back(),
                    .data = reinterpret_cast<const std::byte*>(data_.data() + entry.begin)};
}

std::vector<std::string_view> SafetensorsFile::TensorNames() const {
  std::vector<std::string_view> names;
  names.reserve(tensors_.size());
  for (const auto& item : tensors_) names.push_back(item.first);
  return names;
}

}  // namespace lukv
