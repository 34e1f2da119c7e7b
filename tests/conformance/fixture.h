// What every conformance test stands on: the backends under test, device arrays with guards around them, and a page
// store laid out by the real page pool and page table, with poison wherever nothing may be read or written.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kv/device_page_table.h"
#include "engine/kv/head_page_table.h"
#include "engine/kv/page_pool.h"
#include "kernels/backend.h"
#include "tests/conformance/oracle.h"

namespace lukv::conformance {

// A backend joins the suite by adding itself to Backends() (fixture.cc).
struct BackendCase {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(int threads)> make;
  // Error that the arithmetic of the ops may add, relative to the size of what is summed up.
  double tolerance = 0;
  // The same of ops whose results are f32 whatever the activations are: statistics and scores.
  double f32_tolerance = 4e-6;
  // Of attention over bf16 K and V, relative to the size of V: above `tolerance` where weights are rounded to bf16.
  double bf16_attention_error = 0;
  // Of a linear layer's input: error of an activation relative to the largest one of its block of 32.
  double activation_error = 0;
};

// Those that this machine can make: of the CPU or, where LUKV_CUDA_LIBRARY names a module, of that CUDA device alone.
// That the others are refused as they should be is a test of its own.
const std::vector<BackendCase>& Backends();

// Deterministic numbers of a rough bell shape, |x| < 3, with mean `mean`.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  float Value(float mean = 0.0f);
  int32_t Below(int32_t n) { return static_cast<int32_t>(engine_() % static_cast<uint32_t>(n)); }
  std::vector<float> Values(size_t n, float mean = 0.0f);

 private:
  std::mt19937 engine_;
};

// f32 -> the nearest value of the dtype, and a number's bits in it.
float Rounded(float value, DType dtype);
void Encode(std::span<const float> values, DType dtype, std::byte* out);
std::vector<float> Decode(const std::byte* data, size_t n, DType dtype);
size_t ElementBytes(DType dtype);  // kF32 or kBF16

// Device memory with guard bytes before and after it; everything starts as poison (0xff: a NaN in f32 and bf16).
class GuardedBuffer {
 public:
  GuardedBuffer(Backend& backend, size_t bytes);

  std::byte* data() const;
  size_t bytes() const { return bytes_; }
  void Upload(std::span<const std::byte> bytes);
  // Fails the test if a guard has changed.
  std::vector<std::byte> Download() const;

 private:
  Backend& backend_;
  size_t bytes_;
  DeviceBuffer buffer_;
};

// An array of plain values on the device.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(Backend& backend, std::span<const T> values) : buffer_(backend, values.size_bytes()) {
    buffer_.Upload(std::as_bytes(values));
  }
  DeviceArray(Backend& backend, const std::vector<T>& values) : DeviceArray(backend, std::span<const T>(values)) {}
  // n values of poison, to be written by an op.
  DeviceArray(Backend& backend, size_t n) : buffer_(backend, n * sizeof(T)) {}
  const T* data() const { return reinterpret_cast<const T*>(buffer_.data()); }
  T* out() const { return reinterpret_cast<T*>(buffer_.data()); }
  // Fails the test if something around the array has changed.
  std::vector<T> Get() const {
    const std::vector<std::byte> bytes = buffer_.Download();
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  GuardedBuffer buffer_;
};

// A matrix of activations, rows further apart than they are wide: by whole vectors where they are whole vectors wide,
// for devices that then go by vectors, else by an odd number.
class DeviceMatrix {
 public:
  DeviceMatrix(Backend& backend, int64_t rows, int64_t cols, DType dtype);
  // Of the backend's activation dtype, with the given values [rows, cols] rounded to it.
  DeviceMatrix(Backend& backend, int64_t rows, int64_t cols, std::span<const float> values);

  Matrix view() const;
  void Set(std::span<const float> values);
  // [rows, cols]. Fails the test if something between the rows or around the matrix has changed.
  std::vector<float> Get() const;

 private:
  const int64_t rows_;
  const int64_t cols_;
  const int64_t stride_;
  const DType dtype_;
  GuardedBuffer buffer_;
};

// K and V staging of one layer. All of it is poison until set.
class Staging {
 public:
  Staging(Backend& backend, int32_t n_kv_heads, int32_t capacity, int32_t head_dim, DType dtype);

  StagingView view() const;
  // Values are rounded to the dtype. entries: rows [row, row + entries.size()) of the head.
  void Set(int32_t head, int32_t row, const oracle::HeadEntries& entries);
  oracle::HeadEntries Get(int32_t head, int32_t row, int32_t n) const;
  // Bytes of K, then of V.
  std::vector<std::byte> Bytes() const;

 private:
  void Write(GuardedBuffer& buffer, int32_t head, int32_t row, std::span<const float> values);

  const int32_t n_kv_heads_;
  const int32_t capacity_;
  const int32_t head_dim_;
  const DType dtype_;
  GuardedBuffer k_;
  GuardedBuffer v_;
};

struct WorldShape {
  int32_t n_layers = 2;
  int32_t n_kv_heads = 2;
  int32_t head_dim = 64;
  int32_t page_tokens = 64;
  DType dtype = DType::kBF16;
};

// Sequences in pages. kept[slot] gives each (layer, kv head)'s entries; new pages are taken out of order, pages that
// nobody holds and the unused ends of last pages are poison.
class PagedWorld {
 public:
  // kept: [slots][n_layers * n_kv_heads]; room: entries that each head may grow by.
  PagedWorld(Backend& backend, const WorldShape& shape, const std::vector<std::vector<int32_t>>& kept, int32_t room);
  ~PagedWorld();

  // Fills every entry that a head holds with random values and keeps a copy. REQUIRES: nothing was written yet.
  void Fill(Random& random, float k_mean, float v_mean = 0.5f);
  // Makes the heads of a slot n entries longer; the new entries are poison.
  void Grow(int32_t slot, int32_t n);

  int32_t length(int32_t slot, int32_t layer, int32_t head) const;
  const oracle::HeadEntries& entries(int32_t slot, int32_t layer, int32_t head) const;
  PageTableView table() const;  // Of the last Grow.
  PageStoreView store() const;
  // The store's bytes as they are on the device.
  std::vector<std::byte> Bytes() const { return store_.Download(); }
  // Where an entry's K row begins in Bytes(), and its V row.
  size_t KOffset(int32_t slot, int32_t layer, int32_t head, int32_t entry) const;
  size_t VOffset(int32_t slot, int32_t layer, int32_t head, int32_t entry) const;
  size_t row_bytes() const;

 private:
  size_t Index(int32_t slot, int32_t layer, int32_t head) const;
  PageLease Take(uint32_t n);

  Backend& backend_;
  const WorldShape shape_;
  PagePool pool_;
  HeadPageTable table_;
  std::vector<PageLease> strangers_;  // Pages of others, so that ours do not follow each other.
  GuardedBuffer store_;
  std::vector<oracle::HeadEntries> entries_;  // [slots, layers, kv heads]
  DevicePageTable device_table_;
};

std::string BackendCaseName(const testing::TestParamInfo<BackendCase>& info);

// A test of ops that know nothing of the KV cache.
class BackendTest : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override;
  std::unique_ptr<Backend> backend_;
};

struct KvCase {
  BackendCase backend;
  DType dtype = DType::kBF16;
  int32_t page_tokens = 64;
};
std::string KvCaseName(const testing::TestParamInfo<KvCase>& info);
std::vector<KvCase> StagingCases();  // Every dtype
std::vector<KvCase> PagedCases();    // Every dtype and page size

class KvTest : public testing::TestWithParam<KvCase> {
 protected:
  void SetUp() override;
  // |got - expected| bounded for numbers of about `size`.
  double Tolerance(double size) const { return GetParam().backend.tolerance * size; }
  // Of attention over V of about `size`.
  double AttentionTolerance(double size) const;
  // Error of rounding a number of about `size` to the cache's dtype.
  double StoreTolerance(double size) const;
  std::unique_ptr<Backend> backend_;
};

// Bits, so that -0 and NaN count.
testing::AssertionResult SameBits(std::span<const float> a, std::span<const float> b);

// The inverse frequencies of plain RoPE.
std::vector<float> Frequencies(int32_t head_dim, double base = 10000);

}  // namespace lukv::conformance
