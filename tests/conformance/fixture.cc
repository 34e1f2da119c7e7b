#include "tests/conformance/fixture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/device.h"
#include "kernels/float16.h"
#include "tests/engine/test_backend.h"

namespace lukv::conformance {
namespace {

constexpr std::byte kPoison{0xff};
constexpr size_t kGuard = 256;  // Bytes; keeps the alignment of what lies between.

// Those that this CPU cannot run are left out.
void AddCpu(std::string name, CpuCompute compute, double activation_error, std::vector<BackendCase>& cases) {
  BackendCase c = {.name = std::move(name),
                   .make = [compute](int threads) { return MakeCpuBackend({.threads = threads, .compute = compute}); },
                   .tolerance = 4e-6,
                   .bf16_attention_error = 4e-6,
                   .activation_error = activation_error};
  const auto backend = c.make(1);
  if (!backend.ok()) return;
  // Multiplies bf16 by bf16: softmax weights are rounded to 8 bits.
  if ((*backend)->name().find("avx512_bf16") != std::string::npos) c.bf16_attention_error = 0x1p-9;
  cases.push_back(std::move(c));
}

// Of the CUDA module that LUKV_CUDA_LIBRARY names.
void AddCuda(std::string name, DType activations, double tolerance, std::vector<BackendCase>& cases) {
  cases.push_back(
      {.name = std::move(name),
       .make = [activations](int) { return MakeBackend({.device = "cuda", .cuda = {.activations = activations}}); },
       .tolerance = tolerance,
       .bf16_attention_error = 0x1p-8 + tolerance,  // Softmax weights are rounded to 8 bits.
       .activation_error = 0});
}

uint32_t PoolPages(const WorldShape& shape, const std::vector<std::vector<int32_t>>& kept, int32_t room) {
  uint32_t pages = 3;
  for (const auto& slot : kept) {
    for (const int32_t n : slot) pages += 2 * static_cast<uint32_t>((n + room) / shape.page_tokens + 1);
  }
  return pages;
}

int32_t MaxEntries(const std::vector<std::vector<int32_t>>& kept, int32_t room) {
  int32_t most = 1;
  for (const auto& slot : kept) most = std::max(most, *std::max_element(slot.begin(), slot.end()));
  return most + room;
}

}  // namespace

const std::vector<BackendCase>& Backends() {
  static const auto* const available = [] {
    auto* list = new std::vector<BackendCase>;
    if (TestDevice() == "cuda") {
      AddCuda("cuda_f32", DType::kF32, 4e-6, *list);
      AddCuda("cuda_bf16", DType::kBF16, 0x1p-8, *list);  // Results and dense weights are rounded to 8 bits.
    } else {
      AddCpu("cpu_f32", CpuCompute::kF32, 0, *list);
      AddCpu("cpu_int8", CpuCompute::kInt8, 0.004, *list);  // Off by half a step of 1 / 127.
    }
    return list;
  }();
  return *available;
}

float Random::Value(float mean) {
  float sum = 0;  // Of four uniform numbers in [-0.75, 0.75)
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(engine_() >> 8) * 0x1.8p-24f - 0.75f;
  return sum + mean;
}

std::vector<float> Random::Values(size_t n, float mean) {
  std::vector<float> values(n);
  for (float& v : values) v = Value(mean);
  return values;
}

size_t ElementBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

float Rounded(float value, DType dtype) { return dtype == DType::kF32 ? value : Bf16ToFloat(FloatToBf16(value)); }

void Encode(std::span<const float> values, DType dtype, std::byte* out) {
  for (const float v : values) {
    const uint16_t half = FloatToBf16(v);
    std::memcpy(out, dtype == DType::kF32 ? static_cast<const void*>(&v) : &half, ElementBytes(dtype));
    out += ElementBytes(dtype);
  }
}

std::vector<float> Decode(const std::byte* data, size_t n, DType dtype) {
  std::vector<float> values(n);
  for (float& v : values) {
    uint16_t half = 0;
    std::memcpy(dtype == DType::kF32 ? static_cast<void*>(&v) : &half, data, ElementBytes(dtype));
    if (dtype != DType::kF32) v = Bf16ToFloat(half);
    data += ElementBytes(dtype);
  }
  return values;
}

GuardedBuffer::GuardedBuffer(Backend& backend, size_t bytes) : backend_(backend), bytes_(bytes) {
  auto buffer = backend.Allocate(bytes + 2 * kGuard);
  LUKV_CHECK(buffer.ok());
  buffer_ = *std::move(buffer);
  const std::vector<std::byte> poison(buffer_.bytes(), kPoison);
  LUKV_CHECK(backend.CopyToDevice(buffer_.data(), poison.data(), poison.size()).ok());
}

std::byte* GuardedBuffer::data() const { return buffer_.as<std::byte>() + kGuard; }

void GuardedBuffer::Upload(std::span<const std::byte> bytes) {
  LUKV_CHECK(bytes.size() <= bytes_);
  LUKV_CHECK(backend_.CopyToDevice(data(), bytes.data(), bytes.size()).ok());
}

std::vector<std::byte> GuardedBuffer::Download() const {
  std::vector<std::byte> all(bytes_ + 2 * kGuard);
  LUKV_CHECK(backend_.CopyToHost(all.data(), buffer_.data(), all.size()).ok());
  const auto is_poison = [](std::byte b) { return b == kPoison; };
  EXPECT_TRUE(std::all_of(all.begin(), all.begin() + kGuard, is_poison)) << "written before the array";
  EXPECT_TRUE(std::all_of(all.end() - kGuard, all.end(), is_poison)) << "written after the array";
  return {all.begin() + kGuard, all.end() - kGuard};
}

DeviceMatrix::DeviceMatrix(Backend& backend, int64_t rows, int64_t cols, DType dtype)
    : rows_(rows),
      cols_(cols),
      stride_(cols % 16 == 0 ? cols + 16 : cols + 3),
      dtype_(dtype),
      buffer_(backend, static_cast<size_t>(rows * stride_) * ElementBytes(dtype)) {}

DeviceMatrix::DeviceMatrix(Backend& backend, int64_t rows, int64_t cols, std::span<const float> values)
    : DeviceMatrix(backend, rows, cols, backend.activation_dtype()) {
  Set(values);
}

Matrix DeviceMatrix::view() const {
  return {.data = buffer_.data(), .dtype = dtype_, .rows = rows_, .cols = cols_, .stride = stride_};
}

void DeviceMatrix::Set(std::span<const float> values) {
  LUKV_CHECK(values.size() == static_cast<size_t>(rows_ * cols_));
  std::vector<std::byte> bytes(buffer_.bytes(), kPoison);
  const size_t element = ElementBytes(dtype_);
  for (int64_t r = 0; r < rows_; ++r) {
    Encode(values.subspan(static_cast<size_t>(r * cols_), static_cast<size_t>(cols_)), dtype_,
           bytes.data() + static_cast<size_t>(r * stride_) * element);
  }
  buffer_.Upload(bytes);
}

std::vector<float> DeviceMatrix::Get() const {
  const std::vector<std::byte> bytes = buffer_.Download();
  const size_t element = ElementBytes(dtype_);
  std::vector<float> values;
  for (int64_t r = 0; r < rows_; ++r) {
    const std::byte* row = bytes.data() + static_cast<size_t>(r * stride_) * element;
    const std::vector<float> cells = Decode(row, static_cast<size_t>(cols_), dtype_);
    values.insert(values.end(), cells.begin(), cells.end());
    EXPECT_TRUE(std::all_of(row + static_cast<size_t>(cols_) * element, row + static_cast<size_t>(stride_) * element,
                            [](std::byte b) { return b == kPoison; }))
        << "written between the rows, after row " << r;
  }
  return values;
}

Staging::Staging(Backend& backend, int32_t n_kv_heads, int32_t capacity, int32_t head_dim, DType dtype)
    : n_kv_heads_(n_kv_heads),
      capacity_(capacity),
      head_dim_(head_dim),
      dtype_(dtype),
      k_(backend, static_cast<size_t>(n_kv_heads) * capacity * head_dim * ElementBytes(dtype)),
      v_(backend, k_.bytes()) {}

StagingView Staging::view() const {
  return {.k = k_.data(),
          .v = v_.data(),
          .dtype = dtype_,
          .capacity = capacity_,
          .n_kv_heads = n_kv_heads_,
          .head_dim = head_dim_};
}

void Staging::Write(GuardedBuffer& buffer, int32_t head, int32_t row, std::span<const float> values) {
  std::vector<std::byte> bytes = buffer.Download();
  const size_t at = (static_cast<size_t>(head) * capacity_ + row) * head_dim_;
  Encode(values, dtype_, bytes.data() + at * ElementBytes(dtype_));
  buffer.Upload(bytes);
}

void Staging::Set(int32_t head, int32_t row, const oracle::HeadEntries& entries) {
  Write(k_, head, row, entries.k);
  Write(v_, head, row, entries.v);
}

oracle::HeadEntries Staging::Get(int32_t head, int32_t row, int32_t n) const {
  const size_t at = (static_cast<size_t>(head) * capacity_ + row) * head_dim_ * ElementBytes(dtype_);
  const size_t count = static_cast<size_t>(n) * head_dim_;
  return {.head_dim = head_dim_,
          .k = Decode(k_.Download().data() + at, count, dtype_),
          .v = Decode(v_.Download().data() + at, count, dtype_)};
}

std::vector<std::byte> Staging::Bytes() const {
  std::vector<std::byte> bytes = k_.Download();
  const std::vector<std::byte> v = v_.Download();
  bytes.insert(bytes.end(), v.begin(), v.end());
  return bytes;
}

PagedWorld::PagedWorld(Backend& backend, const WorldShape& shape, const std::vector<std::vector<int32_t>>& kept,
                       int32_t room)
    : backend_(backend),
      shape_(shape),
      pool_(PoolPages(shape, kept, room)),
      table_({.n_layers = shape.n_layers, .n_kv_heads = shape.n_kv_heads, .page_tokens = shape.page_tokens},
             static_cast<int32_t>(kept.size()), MaxEntries(kept, room)),
      store_(backend, size_t{2} * pool_.total() * shape.page_tokens * row_bytes()),
      device_table_(*DevicePageTable::Make(table_, backend)) {
  for (size_t s = 0; s < kept.size(); ++s) {
    table_.Assign(Slot{static_cast<int32_t>(s)}, kept[s], room, Take(table_.PagesFor(kept[s], 0)));
  }
  LUKV_CHECK(device_table_.Update().ok());
}

PagedWorld::~PagedWorld() {
  for (int32_t s = 0; s < table_.n_slots(); ++s) table_.Release(Slot{s});
}

// Every second page goes to a stranger, and the last page first.
PageLease PagedWorld::Take(uint32_t n) {
  PageLease lease;
  for (uint32_t i = 0; i < n; ++i) {
    auto page = pool_.Take(1, PageOwner::kSequence);
    LUKV_CHECK(page.ok());
    page->Absorb(std::move(lease));
    lease = *std::move(page);
    auto stranger = pool_.Take(1, PageOwner::kContext);
    if (stranger.ok()) strangers_.push_back(*std::move(stranger));
  }
  return lease;
}

void PagedWorld::Fill(Random& random, float k_mean, float v_mean) {
  LUKV_CHECK(entries_.empty());
  std::vector<std::byte> bytes = Bytes();
  const size_t dim = static_cast<size_t>(shape_.head_dim);
  for (int32_t s = 0; s < table_.n_slots(); ++s) {
    for (int32_t l = 0; l < shape_.n_layers; ++l) {
      for (int32_t h = 0; h < shape_.n_kv_heads; ++h) {
        const int32_t n = length(s, l, h);
        oracle::HeadEntries entries{
            .head_dim = shape_.head_dim, .k = random.Values(n * dim, k_mean), .v = random.Values(n * dim, v_mean)};
        for (float& x : entries.k) x = Rounded(x, shape_.dtype);
        for (float& x : entries.v) x = Rounded(x, shape_.dtype);
        for (int32_t e = 0; e < n; ++e) {
          Encode({&entries.k[e * dim], dim}, shape_.dtype, &bytes[KOffset(s, l, h, e)]);
          Encode({&entries.v[e * dim], dim}, shape_.dtype, &bytes[VOffset(s, l, h, e)]);
        }
        entries_.push_back(std::move(entries));
      }
    }
  }
  store_.Upload(bytes);
}

void PagedWorld::Grow(int32_t slot, int32_t n) {
  table_.Append(Slot{slot}, n, Take(table_.PagesToAppend(Slot{slot}, n)));
  LUKV_CHECK(device_table_.Update().ok());
}

size_t PagedWorld::Index(int32_t slot, int32_t layer, int32_t head) const {
  return (static_cast<size_t>(slot) * shape_.n_layers + layer) * shape_.n_kv_heads + head;
}

int32_t PagedWorld::length(int32_t slot, int32_t layer, int32_t head) const {
  return Value(table_.Length(Slot{slot}, layer, head));
}

const oracle::HeadEntries& PagedWorld::entries(int32_t slot, int32_t layer, int32_t head) const {
  return entries_[Index(slot, layer, head)];
}

PageTableView PagedWorld::table() const { return device_table_.view(); }

PageStoreView PagedWorld::store() const {
  return {.base = store_.data(),
          .dtype = shape_.dtype,
          .page_tokens = shape_.page_tokens,
          .head_dim = shape_.head_dim,
          .n_pages = pool_.total()};
}

size_t PagedWorld::row_bytes() const { return static_cast<size_t>(shape_.head_dim) * ElementBytes(shape_.dtype); }

size_t PagedWorld::KOffset(int32_t slot, int32_t layer, int32_t head, int32_t entry) const {
  const PageId page = table_.Pages(Slot{slot}, layer, head)[static_cast<size_t>(entry / shape_.page_tokens)];
  return (size_t{2} * page * shape_.page_tokens + entry % shape_.page_tokens) * row_bytes();
}

size_t PagedWorld::VOffset(int32_t slot, int32_t layer, int32_t head, int32_t entry) const {
  return KOffset(slot, layer, head, entry) + static_cast<size_t>(shape_.page_tokens) * row_bytes();
}

std::string BackendCaseName(const testing::TestParamInfo<BackendCase>& info) { return info.param.name; }

void BackendTest::SetUp() {
  auto backend = GetParam().make(2);
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend_ = *std::move(backend);
}

std::string KvCaseName(const testing::TestParamInfo<KvCase>& info) {
  return info.param.backend.name + (info.param.dtype == DType::kF32 ? "_f32" : "_bf16") + "_page" +
         std::to_string(info.param.page_tokens);
}

// The arithmetic of linear layers makes no difference to these ops: one case per device is enough.
std::vector<KvCase> PagedCases() {
  std::vector<KvCase> cases;
  for (const BackendCase& backend : Backends()) {
    if (backend.activation_error != 0) continue;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int32_t page_tokens : {1, 2, 64}) cases.push_back({backend, dtype, page_tokens});
    }
  }
  return cases;
}

std::vector<KvCase> StagingCases() {
  std::vector<KvCase> cases = PagedCases();
  std::erase_if(cases, [](const KvCase& c) { return c.page_tokens != 64; });
  return cases;
}

void KvTest::SetUp() {
  auto backend = GetParam().backend.make(2);
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend_ = *std::move(backend);
}

double KvTest::AttentionTolerance(double size) const {
  const BackendCase& backend = GetParam().backend;
  return size * (GetParam().dtype == DType::kBF16 ? backend.bf16_attention_error : backend.tolerance);
}

double KvTest::StoreTolerance(double size) const {
  return Tolerance(size) + (GetParam().dtype == DType::kBF16 ? size * 0x1p-8 : 0);
}

testing::AssertionResult SameBits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " against " << b.size() << " values";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return testing::AssertionFailure() << "value " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

std::vector<float> Frequencies(int32_t head_dim, double base) {
  std::vector<float> frequencies;
  for (int32_t i = 0; i < head_dim; i += 2) {
    frequencies.push_back(static_cast<float>(std::pow(base, -static_cast<double>(i) / head_dim)));
  }
  return frequencies;
}

}  // namespace lukv::conformance
