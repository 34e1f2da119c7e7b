// How backend.cc, backend_evict.cc and the devices' packing of weights check arguments. No part of the seam.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/args.h"

namespace lukv {

// The distribution's absl::string_view is not std::string_view.
inline absl::string_view DTypeName(DType dtype) { return {Traits(dtype).name.data(), Traits(dtype).name.size()}; }

// Checks of one call; the first that fails is the one reported. Device arrays cannot be looked into, only their
// addresses can.
class Checks {
 public:
  explicit Checks(absl::string_view op) : op_(op) {}

  // `argument` is a member of the op's struct; `problem` completes "argument ...".
  template <typename... Parts>
  void Require(bool holds, absl::string_view argument, const Parts&... problem) {
    if (holds || !status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(op_, ": ", argument, " ", problem...));
  }

  void Present(const void* pointer, absl::string_view argument) { Require(pointer != nullptr, argument, "is null"); }

  void Equal(int64_t actual, int64_t expected, absl::string_view argument) {
    Require(actual == expected, argument, "is ", actual, ", must be ", expected);
  }

  void Positive(int64_t actual, absl::string_view argument) {
    Require(actual > 0, argument, "is ", actual, ", must be positive");
  }

  void InRange(int64_t actual, int64_t low, int64_t high, absl::string_view argument) {
    Require(actual >= low && actual < high, argument, "is ", actual, ", must be in [", low, ", ", high, ")");
  }

  void Finite(float actual, absl::string_view argument) {
    Require(std::isfinite(actual), argument, "is ", actual, ", must be finite");
  }

  void IsMatrix(const ConstMatrix& m, DType dtype, absl::string_view argument) {
    Require(m.dtype == dtype, argument, "has dtype ", DTypeName(m.dtype), ", must have ", DTypeName(dtype));
    Require(m.rows >= 0, argument, "has ", m.rows, " rows");
    Require(m.cols > 0, argument, "has ", m.cols, " columns");
    Require(m.rows <= 1 || m.stride >= m.cols, argument, "has stride ", m.stride, " for ", m.cols, " columns");
    Require(m.rows == 0 || m.data != nullptr, argument, "is null");
  }

  void SameRows(const ConstMatrix& m, const ConstMatrix& like, absl::string_view argument) {
    Require(m.rows == like.rows, argument, "has ", m.rows, " rows, must have ", like.rows);
  }

  void HasCols(const ConstMatrix& m, int64_t cols, absl::string_view argument) {
    Require(m.cols == cols, argument, "has ", m.cols, " columns, must have ", cols);
  }

  void KvDtype(DType dtype, absl::string_view argument) {
    Require(dtype == DType::kF32 || dtype == DType::kBF16, argument, "is ", DTypeName(dtype), ", must be F32 or BF16");
  }

  void Heads(int32_t n_heads, int32_t n_kv_heads) {
    Positive(n_kv_heads, "n_kv_heads");
    Positive(n_heads, "n_heads");
    if (!ok()) return;
    Require(n_heads % n_kv_heads == 0, "n_heads", "is ", n_heads, ", must be a multiple of ", n_kv_heads, " kv heads");
  }

  void HeadDim(int32_t head_dim, absl::string_view argument) {
    Require(head_dim > 0 && head_dim % 2 == 0, argument, "is ", head_dim, ", must be even and positive");
  }

  void PositiveFinite(float actual, absl::string_view argument) {
    Require(std::isfinite(actual) && actual > 0, argument, "is ", actual, ", must be positive and finite");
  }

  void NotNegative(int64_t actual, absl::string_view argument) {
    Require(actual >= 0, argument, "is ", actual, ", must not be negative");
  }

  bool ok() const { return status_.ok(); }
  absl::Status status() && { return std::move(status_); }

 private:
  const absl::string_view op_;
  absl::Status status_;
};

// What several ops have in common. Arguments are called by the name of the innermost struct's member.
void CheckStaging(const StagingView& staging, Checks& checks);
void CheckPages(const PageStoreView& pages, Checks& checks);
void CheckTable(const PageTableView& table, int32_t layer, Checks& checks);
void CheckSequences(const SequenceRows& sequences, int64_t rows, const PageTableView& table, Checks& checks);
// q [rows, n_heads * head_dim] and the scale of its products with keys.
void CheckQueries(const ConstMatrix& q, int32_t n_heads, int32_t n_kv_heads, int32_t head_dim, float scale,
                  DType activation, Checks& checks);

// The parts that PackLinear stacks: not empty, of the same columns, in whole blocks.
absl::Status CheckLinearParts(std::span<const TensorView> parts);

}  // namespace lukv
