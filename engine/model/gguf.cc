#include "engine/model/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/mapped_file.h"

namespace lukv {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian and read in place");

// Metadata value types (gguf.md, enum gguf_metadata_value_type).
enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

struct ValueTypeTraits {
  std::string_view name;
  uint64_t bytes;  // 0: variable.
};

constexpr ValueTypeTraits kValueTypes[] = {
    {"uint8", 1}, {"int8", 1},   {"uint16", 2}, {"int16", 2},  {"uint32", 4}, {"int32", 4},   {"float32", 4},
    {"bool", 1},  {"string", 0}, {"array", 0},  {"uint64", 8}, {"int64", 8},  {"float64", 8},
};

const ValueTypeTraits& TraitsOf(ValueType type) { return kValueTypes[static_cast<uint32_t>(type)]; }

// Tensor types by number (ggml.h, enum ggml_type); `dtype` is empty for those that lukv only knows by name.
struct TensorType {
  uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;
};

constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::kF32},      {1, "F16", DType::kF16},       {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},    {6, "Q5_0", std::nullopt},     {7, "Q5_1", std::nullopt},
    {8, "Q8_0", DType::kQ8_0},    {9, "Q8_1", std::nullopt},     {10, "Q2_K", std::nullopt},
    {11, "Q3_K", std::nullopt},   {12, "Q4_K", DType::kQ4_K},    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},   {15, "Q8_K", std::nullopt},    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt}, {18, "IQ3_XXS", std::nullopt}, {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt}, {21, "IQ3_S", std::nullopt},   {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", std::nullopt}, {24, "I8", std::nullopt},      {25, "I16", std::nullopt},
    {26, "I32", std::nullopt},    {27, "I64", std::nullopt},     {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},  {30, "BF16", DType::kBF16},    {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},  {39, "MXFP4", std::nullopt},   {40, "NVFP4", std::nullopt},
    {41, "Q1_0", std::nullopt},
};

const TensorType* FindTensorType(uint32_t number) {
  for (const TensorType& type : kTensorTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
// The smallest encodings of one metadata entry (empty key, one-byte value) and of one tensor entry (empty name, one
// dimension): bounds on the counts that a file of a given size can hold.
constexpr uint64_t kMinEntryBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;

struct Value {
  ValueType type = ValueType::kUint8;
  ValueType element = ValueType::kUint8;  // kArray
  uint64_t count = 1;
  const char* data = nullptr;
};

struct TensorEntry {
  std::string_view name;
  uint32_t type = 0;
  uint32_t n_dims = 0;
  uint64_t dims[kMaxDims] = {1, 1, 1, 1};  // Innermost first, as in the file.
  uint64_t offset = 0;                     // From the start of the data section.
  uint64_t bytes = 0;                      // 0 when the type's size is not known.
};

template <typename T>
T LoadScalar(const char* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

// Reads forward through the file; each error says where and what was being read.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  absl::StatusOr<const char*> Take(uint64_t n, std::string_view what) {
    if (n > left()) {
      return absl::InvalidArgumentError(
          StrCat("the file ends inside ", what, " at offset ", offset_, ": ", n, " bytes needed, ", left(), " left"));
    }
    const char* data = bytes_.data() + offset_;
    offset_ += n;
    return data;
  }

  template <typename T>
  absl::StatusOr<T> Read(std::string_view what) {
    LUKV_ASSIGN_OR_RETURN(const char* data, Take(sizeof(T), what));
    return LoadScalar<T>(data);
  }

  absl::StatusOr<std::string_view> ReadString(std::string_view what) {
    LUKV_ASSIGN_OR_RETURN(const uint64_t length, Read<uint64_t>(what));
    LUKV_ASSIGN_OR_RETURN(const char* data, Take(length, what));
    return std::string_view(data, length);
  }

 private:
  std::string_view bytes_;
  uint64_t offset_ = 0;
};

absl::StatusOr<ValueType> ReadValueType(Cursor& cursor, std::string_view key) {
  LUKV_ASSIGN_OR_RETURN(const uint32_t number, cursor.Read<uint32_t>("a value type"));
  if (number >= std::size(kValueTypes)) {
    return absl::InvalidArgumentError(
        StrCat("key ", Quoted(key), " has unknown value type ", number, " at offset ", cursor.offset() - 4));
  }
  return static_cast<ValueType>(number);
}

absl::Status CheckBools(std::string_view key, const Value& value) {
  for (uint64_t i = 0; i < value.count; ++i) {
    if (static_cast<uint8_t>(value.data[i]) > 1) {
      return absl::InvalidArgumentError(
          StrCat("key ", Quoted(key), " has a bool that is ", static_cast<int>(static_cast<uint8_t>(value.data[i]))));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> ReadValue(Cursor& cursor, std::string_view key) {
  Value value;
  LUKV_ASSIGN_OR_RETURN(value.type, ReadValueType(cursor, key));
  value.element = value.type;
  const std::string what = StrCat("the value of key ", Quoted(key));
  if (value.type == ValueType::kArray) {
    LUKV_ASSIGN_OR_RETURN(value.element, ReadValueType(cursor, key));
    if (value.element == ValueType::kArray) {
      return absl::InvalidArgumentError(StrCat("key ", Quoted(key), " is an array of arrays"));
    }
    LUKV_ASSIGN_OR_RETURN(value.count, cursor.Read<uint64_t>(what));
    const uint64_t least = value.element == ValueType::kString ? sizeof(uint64_t) : TraitsOf(value.element).bytes;
    if (value.count > cursor.left() / least) {
      return absl::InvalidArgumentError(StrCat("key ", Quoted(key), " claims ", value.count, " elements at offset ",
                                               cursor.offset(), ", more than the file can hold"));
    }
  }
  if (value.element == ValueType::kString) {
    LUKV_ASSIGN_OR_RETURN(value.data, cursor.Take(0, what));
    for (uint64_t i = 0; i < value.count; ++i) LUKV_RETURN_IF_ERROR(cursor.ReadString(what).status());
    return value;
  }
  LUKV_ASSIGN_OR_RETURN(value.data, cursor.Take(value.count * TraitsOf(value.element).bytes, what));
  if (value.element == ValueType::kBool) LUKV_RETURN_IF_ERROR(CheckBools(key, value));
  return value;
}

// The size that dims and type call for; 0 for a type of unknown size.
absl::StatusOr<uint64_t> TensorBytes(const TensorEntry& tensor) {
  // Half of the range, so that the sums made of it cannot overflow either.
  constexpr uint64_t kMaxElements = uint64_t{1} << 60;
  uint64_t elements = 1;
  for (uint32_t i = 0; i < tensor.n_dims; ++i) {
    if (tensor.dims[i] == 0) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name), " has a dimension of 0"));
    }
    if (tensor.dims[i] > kMaxElements / elements) {
      return absl::InvalidArgumentError(StrCat("the dimensions of tensor ", Quoted(tensor.name), " overflow"));
    }
    elements *= tensor.dims[i];
  }
  const TensorType* type = FindTensorType(tensor.type);
  if (type == nullptr || !type->dtype.has_value()) return 0;
  const DTypeTraits& traits = Traits(*type->dtype);
  const auto block = static_cast<uint64_t>(traits.block_elements);
  if (tensor.dims[0] % block != 0) {
    return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name), " has rows of ", tensor.dims[0],
                                             " elements, not a multiple of the ", block, " of a ", traits.name,
                                             " block"));
  }
  const uint64_t blocks = elements / block;
  if (blocks > std::numeric_limits<int64_t>::max() / static_cast<uint64_t>(traits.block_bytes)) {
    return absl::InvalidArgumentError(StrCat("the dimensions of tensor ", Quoted(tensor.name), " overflow"));
  }
  return blocks * static_cast<uint64_t>(traits.block_bytes);
}

absl::StatusOr<TensorEntry> ReadTensorEntry(Cursor& cursor, uint64_t alignment) {
  TensorEntry tensor;
  LUKV_ASSIGN_OR_RETURN(tensor.name, cursor.ReadString("a tensor name"));
  const std::string what = StrCat("the entry of tensor ", Quoted(tensor.name));
  LUKV_ASSIGN_OR_RETURN(tensor.n_dims, cursor.Read<uint32_t>(what));
  if (tensor.n_dims == 0 || tensor.n_dims > kMaxDims) {
    return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name), " has ", tensor.n_dims,
                                             " dimensions; 1 to ", kMaxDims, " are possible"));
  }
  for (uint32_t i = 0; i < tensor.n_dims; ++i) {
    LUKV_ASSIGN_OR_RETURN(tensor.dims[i], cursor.Read<uint64_t>(what));
  }
  LUKV_ASSIGN_OR_RETURN(tensor.type, cursor.Read<uint32_t>(what));
  LUKV_ASSIGN_OR_RETURN(tensor.offset, cursor.Read<uint64_t>(what));
  if (tensor.offset % alignment != 0) {
    return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name), " begins at ", tensor.offset,
                                             ", not a multiple of the alignment ", alignment));
  }
  LUKV_ASSIGN_OR_RETURN(tensor.bytes, TensorBytes(tensor));
  return tensor;
}

// Tensors of a type of unknown size take part with 0 bytes.
absl::Status CheckNoOverlap(const std::vector<TensorEntry>& tensors) {
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.bytes > 0) order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes) {
      return absl::InvalidArgumentError(
          StrCat("tensors ", Quoted(order[i - 1]->name), " and ", Quoted(order[i]->name), " overlap"));
    }
  }
  return absl::OkStatus();
}

absl::Status MissingKey(std::string_view key) {
  return absl::NotFoundError(StrCat("key ", Quoted(key), " is missing"));
}

absl::Status WrongType(std::string_view key, const Value& value, std::string_view wanted) {
  const std::string found = value.type == ValueType::kArray ? StrCat("array of ", TraitsOf(value.element).name)
                                                            : std::string(TraitsOf(value.type).name);
  return absl::InvalidArgumentError(StrCat("key ", Quoted(key), " is of type ", found, ", not ", wanted));
}

// Calls visit(T{}) with the C++ type of a numeric element type; false when it is none.
template <typename Visitor>
bool VisitNumber(ValueType type, Visitor visit) {
  switch (type) {
    case ValueType::kUint8:
      return visit(uint8_t{}), true;
    case ValueType::kInt8:
      return visit(int8_t{}), true;
    case ValueType::kUint16:
      return visit(uint16_t{}), true;
    case ValueType::kInt16:
      return visit(int16_t{}), true;
    case ValueType::kUint32:
      return visit(uint32_t{}), true;
    case ValueType::kInt32:
      return visit(int32_t{}), true;
    case ValueType::kUint64:
      return visit(uint64_t{}), true;
    case ValueType::kInt64:
      return visit(int64_t{}), true;
    case ValueType::kFloat32:
      return visit(float{}), true;
    case ValueType::kFloat64:
      return visit(double{}), true;
    case ValueType::kBool:
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  return false;
}

bool IsInteger(ValueType type) {
  return type != ValueType::kFloat32 && type != ValueType::kFloat64 && VisitNumber(type, [](auto) {});
}

bool IsNumber(ValueType type) {
  return VisitNumber(type, [](auto) {});
}

// REQUIRES: IsInteger(value.element)
absl::StatusOr<int64_t> IntegerAt(std::string_view key, const Value& value, uint64_t index) {
  int64_t result = 0;
  bool fits = true;
  VisitNumber(value.element, [&]<typename T>(T) {
    if constexpr (std::is_integral_v<T>) {
      const T number = LoadScalar<T>(value.data + index * sizeof(T));
      fits = std::in_range<int64_t>(number);
      result = static_cast<int64_t>(number);
    }
  });
  if (!fits) {
    return absl::InvalidArgumentError(StrCat("key ", Quoted(key), " holds ", static_cast<uint64_t>(result),
                                             ", which does not fit a signed 64-bit integer"));
  }
  return result;
}

// REQUIRES: IsNumber(value.element)
double NumberAt(const Value& value, uint64_t index) {
  double result = 0;
  VisitNumber(value.element,
              [&]<typename T>(T) { result = static_cast<double>(LoadScalar<T>(value.data + index * sizeof(T))); });
  return result;
}

}  // namespace

struct GgufFile::Impl {
  std::unique_ptr<MappedFile> file;  // Null when parsed from the caller's memory.
  std::string_view bytes;
  std::string_view data;  // The data section.
  std::map<std::string_view, Value> values;
  std::vector<TensorEntry> tensors;
  std::map<std::string_view, size_t> tensor_index;

  absl::Status Read();
  absl::Status ReadMetadata(Cursor& cursor, uint64_t count);
  absl::StatusOr<uint64_t> Alignment() const;
  absl::Status ReadTensors(Cursor& cursor, uint64_t count);

  const Value* Find(std::string_view key) const {
    const auto it = values.find(key);
    return it == values.end() ? nullptr : &it->second;
  }
  // The value of an array key whose elements satisfy `accepts`.
  absl::StatusOr<const Value*> FindArray(std::string_view key, bool (*accepts)(ValueType),
                                         std::string_view wanted) const {
    const Value* value = Find(key);
    if (value == nullptr) return MissingKey(key);
    if (value->type != ValueType::kArray || !accepts(value->element)) return WrongType(key, *value, wanted);
    return value;
  }
};

absl::Status GgufFile::Impl::Read() {
  constexpr std::string_view kMagic = "GGUF";
  if (bytes.empty()) return absl::InvalidArgumentError("the file is empty");
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::InvalidArgumentError(
        StrCat("not a GGUF file: it begins with ", Quoted(bytes.substr(0, kMagic.size()))));
  }
  Cursor cursor(bytes);
  LUKV_RETURN_IF_ERROR(cursor.Take(kMagic.size(), "the header").status());
  LUKV_ASSIGN_OR_RETURN(const uint32_t version, cursor.Read<uint32_t>("the header"));
  if (version != 2 && version != 3) {
    if ((version & 0xffffu) == 0) return absl::UnimplementedError("a big-endian GGUF file; only little-endian is read");
    return absl::UnimplementedError(StrCat("GGUF version ", version, "; only 2 and 3 are read"));
  }
  LUKV_ASSIGN_OR_RETURN(const uint64_t n_tensors, cursor.Read<uint64_t>("the header"));
  LUKV_ASSIGN_OR_RETURN(const uint64_t n_values, cursor.Read<uint64_t>("the header"));
  if (n_tensors > cursor.left() / kMinTensorBytes) {
    return absl::InvalidArgumentError(StrCat("the header claims ", n_tensors, " tensors, more than the file can hold"));
  }
  if (n_values > cursor.left() / kMinEntryBytes) {
    return absl::InvalidArgumentError(
        StrCat("the header claims ", n_values, " metadata keys, more than the file can hold"));
  }
  LUKV_RETURN_IF_ERROR(ReadMetadata(cursor, n_values));
  return ReadTensors(cursor, n_tensors);
}

absl::Status GgufFile::Impl::ReadMetadata(Cursor& cursor, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t start = cursor.offset();
    LUKV_ASSIGN_OR_RETURN(const std::string_view key, cursor.ReadString("a metadata key"));
    LUKV_ASSIGN_OR_RETURN(const Value value, ReadValue(cursor, key));
    if (!values.try_emplace(key, value).second) {
      return absl::InvalidArgumentError(StrCat("key ", Quoted(key), " is there twice (offset ", start, ")"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> GgufFile::Impl::Alignment() const {
  constexpr std::string_view kKey = "general.alignment";
  const Value* value = Find(kKey);
  if (value == nullptr) return kDefaultAlignment;
  if (value->type != ValueType::kUint32) return WrongType(kKey, *value, "uint32");
  const auto alignment = LoadScalar<uint32_t>(value->data);
  if (!std::has_single_bit(alignment)) {
    return absl::InvalidArgumentError(StrCat("general.alignment is ", alignment, ", not a power of two"));
  }
  return alignment;
}

absl::Status GgufFile::Impl::ReadTensors(Cursor& cursor, uint64_t count) {
  LUKV_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t start = cursor.offset();
    LUKV_ASSIGN_OR_RETURN(const TensorEntry tensor, ReadTensorEntry(cursor, alignment));
    if (!tensor_index.try_emplace(tensor.name, tensors.size()).second) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name), " is there twice (offset ", start, ")"));
    }
    tensors.push_back(tensor);
  }
  if (tensors.empty()) return absl::OkStatus();  // Metadata alone (a vocabulary) has no data section.
  const uint64_t padding = (alignment - cursor.offset() % alignment) % alignment;
  LUKV_RETURN_IF_ERROR(cursor.Take(padding, "the padding before the tensor data").status());
  data = bytes.substr(cursor.offset());
  for (const TensorEntry& tensor : tensors) {
    if (tensor.offset > data.size() || tensor.bytes > data.size() - tensor.offset) {
      return absl::InvalidArgumentError(StrCat("tensor ", Quoted(tensor.name),
                                               " ends past the end of the file: ", tensor.bytes, " bytes at ",
                                               tensor.offset, " of ", data.size(), " bytes of data"));
    }
  }
  return CheckNoOverlap(tensors);
}

GgufFile::GgufFile() : impl_(std::make_unique<Impl>()) {}
GgufFile::~GgufFile() = default;

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  std::unique_ptr<GgufFile> result(new GgufFile());
  LUKV_ASSIGN_OR_RETURN(result->impl_->file, MappedFile::Open(path));
  result->impl_->bytes = result->impl_->file->contents();
  LUKV_RETURN_IF_ERROR(Prefixed(result->impl_->Read(), path));
  return result;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Parse(std::string_view contents) {
  std::unique_ptr<GgufFile> result(new GgufFile());
  result->impl_->bytes = contents;
  LUKV_RETURN_IF_ERROR(result->impl_->Read());
  return result;
}

size_t GgufFile::file_bytes() const { return impl_->bytes.size(); }

bool GgufFile::Has(std::string_view key) const { return impl_->Find(key) != nullptr; }

absl::StatusOr<std::string_view> GgufFile::GetString(std::string_view key) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr) return MissingKey(key);
  if (value->type != ValueType::kString) return WrongType(key, *value, "string");
  return std::string_view(value->data + sizeof(uint64_t), LoadScalar<uint64_t>(value->data));
}

absl::StatusOr<int64_t> GgufFile::GetInt(std::string_view key) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr) return MissingKey(key);
  if (!IsInteger(value->type)) return WrongType(key, *value, "an integer");
  return IntegerAt(key, *value, 0);
}

absl::StatusOr<double> GgufFile::GetFloat(std::string_view key) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr) return MissingKey(key);
  if (!IsNumber(value->type)) return WrongType(key, *value, "a number");
  return NumberAt(*value, 0);
}

absl::StatusOr<bool> GgufFile::GetBool(std::string_view key) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr) return MissingKey(key);
  if (value->type != ValueType::kBool) return WrongType(key, *value, "bool");
  return value->data[0] != 0;
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  LUKV_ASSIGN_OR_RETURN(const Value* value,
                        impl_->FindArray(
                            key, [](ValueType type) { return type == ValueType::kString; }, "an array of strings"));
  std::vector<std::string_view> result;
  result.reserve(value->count);
  const char* next = value->data;
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto length = LoadScalar<uint64_t>(next);
    next += sizeof(uint64_t);
    result.emplace_back(next, length);
    next += length;
  }
  return result;
}

absl::StatusOr<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  LUKV_ASSIGN_OR_RETURN(const Value* value, impl_->FindArray(key, IsInteger, "an array of integers"));
  std::vector<int64_t> result(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    LUKV_ASSIGN_OR_RETURN(result[i], IntegerAt(key, *value, i));
  }
  return result;
}

absl::StatusOr<std::vector<float>> GgufFile::GetFloats(std::string_view key) const {
  LUKV_ASSIGN_OR_RETURN(const Value* value, impl_->FindArray(key, IsNumber, "an array of numbers"));
  std::vector<float> result(value->count);
  for (uint64_t i = 0; i < value->count; ++i) result[i] = static_cast<float>(NumberAt(*value, i));
  return result;
}

absl::StatusOr<TensorView> GgufFile::Tensor(std::string_view name) const {
  const auto it = impl_->tensor_index.find(name);
  if (it == impl_->tensor_index.end()) return absl::NotFoundError(StrCat("tensor ", Quoted(name), " is missing"));
  const TensorEntry& tensor = impl_->tensors[it->second];
  const TensorType* type = FindTensorType(tensor.type);
  if (type == nullptr || !type->dtype.has_value()) {
    const std::string found = type != nullptr ? std::string(type->name) : StrCat("number ", tensor.type);
    return absl::UnimplementedError(StrCat("tensor ", Quoted(name), " is of type ", found,
                                           "; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K"));
  }
  if (tensor.dims[2] != 1 || tensor.dims[3] != 1) {
    return absl::UnimplementedError(
        StrCat("tensor ", Quoted(name), " has ", tensor.n_dims, " dimensions; only matrices are supported"));
  }
  return TensorView{.dtype = *type->dtype,
                    .rows = static_cast<int64_t>(tensor.dims[1]),
                    .cols = static_cast<int64_t>(tensor.dims[0]),
                    .data = reinterpret_cast<const std::byte*>(impl_->data.data() + tensor.offset)};
}

void GgufFile::LetGo() const {
  if (impl_->file != nullptr) impl_->file->LetGo();
}

bool GgufFile::HasTensor(std::string_view name) const { return impl_->tensor_index.contains(name); }

std::vector<std::string_view> GgufFile::TensorNames() const {
  std::vector<std::string_view> names;
  names.reserve(impl_->tensors.size());
  for (const TensorEntry& tensor : impl_->tensors) names.push_back(tensor.name);
  return names;
}

}  // namespace lukv
