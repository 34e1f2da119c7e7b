#include "engine/model/safetensors.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "tests/engine/model/allocation_probe.h"
#include "tests/engine/model/mutate.h"
#include "tests/engine/model/safetensors_builder.h"
#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

void ExpectRefused(const std::string& file, const std::string& words) {
  const ExactCopy copy(file);
  ExpectStatus(SafetensorsFile::Parse(copy.view()).status(), StatusCode::kInvalidArgument, words);
}

// One tensor over 8 bytes of data, described by `entry`.
void ExpectEntryRefused(const std::string& entry, const std::string& words) {
  ExpectRefused(SafetensorsBytes("{\"bad\":" + entry + "}", "12345678"), words);
}

std::string Valid() {
  return SafetensorsBuilder()
      .AddF32("matrix", {3, 2})
      .Add("vector", "BF16", {5}, "0123456789")
      .Add("half", "F16", {1, 2}, "abcd")
      .Add("scalar", "F32", {}, "wxyz")
      .Build();
}

TEST(Safetensors, TensorsAreViewsIntoTheFile) {
  const std::string bytes = Valid();
  const auto file = SafetensorsFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT((*file)->TensorNames(), ElementsAre("half", "matrix", "scalar", "vector"));
  EXPECT_EQ((*file)->file_bytes(), bytes.size());
  const auto matrix = (*file)->Tensor("matrix");
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->dtype, DType::kF32);
  EXPECT_EQ(matrix->rows, 3);
  EXPECT_EQ(matrix->cols, 2);
  const auto vector = (*file)->Tensor("vector");
  ASSERT_TRUE(vector.ok()) << vector.status();
  EXPECT_EQ(vector->dtype, DType::kBF16);
  EXPECT_EQ(vector->rows, 1);
  EXPECT_EQ(vector->cols, 5);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(vector->data), 10), "0123456789");
  const auto scalar = (*file)->Tensor("scalar");
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_EQ(scalar->rows * scalar->cols, 1);
  EXPECT_FALSE((*file)->HasTensor("__metadata__"));
}

TEST(Safetensors, OtherTypesAreRefusedByNameWhenAskedFor) {
  const std::string bytes = SafetensorsBuilder()
                                .Add("ints", "I64", {1}, "12345678")
                                .Add("new", "F4", {2}, "1")
                                .AddF32("cube", {1, 2, 1})
                                .Build();
  const auto file = SafetensorsFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectStatus((*file)->Tensor("ints").status(), StatusCode::kUnimplemented,
               "tensor \"ints\" is of dtype \"I64\"; supported are F32, F16, BF16");
  ExpectStatus((*file)->Tensor("new").status(), StatusCode::kUnimplemented, "tensor \"new\" is of dtype \"F4\"");
  ExpectStatus((*file)->Tensor("cube").status(), StatusCode::kUnimplemented, "3 dimensions");
  ExpectStatus((*file)->Tensor("gone").status(), StatusCode::kNotFound, "tensor \"gone\" is missing");
}

TEST(Safetensors, HeadersThatAreNoneAreRefused) {
  ExpectRefused("", "not a safetensors file: 0 bytes");
  ExpectRefused("1234567", "not a safetensors file: 7 bytes");
  ExpectRefused("PK\x03\x04 and more", "not a safetensors file: a header of");
  ExpectRefused(std::string("\x64\0\0\0\0\0\0\0{}", 10), "the file ends inside the header: 100 bytes needed, 2 left");
  ExpectRefused(SafetensorsBytes("", ""), "not valid JSON at byte");
  ExpectRefused(SafetensorsBytes("[]", ""), "is not a JSON object");
  ExpectRefused(SafetensorsBytes("{\"a\":}", ""), "not valid JSON at byte 6");
  ExpectRefused(SafetensorsBytes("{\"a\":\"\xff\"}", ""), "not valid JSON");
  ExpectRefused(SafetensorsBytes(std::string(100000, '['), ""), "JSON nested more than 32 deep");
  ExpectRefused(SafetensorsBytes("{\"a\":{\"shape\":[1e999]}}", ""), "not valid JSON");
}

TEST(Safetensors, DamagedEntriesAreNamed) {
  ExpectEntryRefused("[]", "tensor \"bad\" is not described by an object");
  ExpectEntryRefused(R"({"shape":[2],"data_offsets":[0,8]})", "tensor \"bad\" has no dtype");
  ExpectEntryRefused(R"({"dtype":4,"shape":[2],"data_offsets":[0,8]})", "tensor \"bad\" has no dtype");
  ExpectEntryRefused(R"({"dtype":"F32","data_offsets":[0,8]})", "has no shape of whole numbers");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", "has no shape of whole numbers");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", "has no shape of whole numbers");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})", "has no shape");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2]})", "has no data_offsets of two whole numbers");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", "has no data_offsets of two");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})", "has no data_offsets of two");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", "lies at [8, 0) of 8 bytes of data");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2],"data_offsets":[1,9]})", "lies at [1, 9) of 8 bytes of data");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]})", "lies at [0, ");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})",
                     "has a shape that needs 4 bytes, but data_offsets give 8");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", "needs more than its 8 bytes");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})", "needs more than");
  ExpectEntryRefused(R"({"dtype":"F32","shape":[0,2],"data_offsets":[0,0]})", "tensor \"bad\" has a dimension of 0");
}

TEST(Safetensors, TensorsMustBeApart) {
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  ExpectRefused(SafetensorsBytes("{\"a\":" + entry + ",\"a\":" + entry + "}", "1234"),
                "the name \"a\" is there twice in one object");
  ExpectRefused(SafetensorsBytes("{\"a\":" + entry + ",\"b\":" + entry + "}", "1234"),
                "tensors \"a\" and \"b\" overlap");
  const std::string wide = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string inner = R"({"dtype":"F16","shape":[1],"data_offsets":[4,6]})";
  ExpectRefused(SafetensorsBytes("{\"a\":" + inner + ",\"b\":" + wide + "}", "12345678"), "overlap");
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string file = Valid();
  for (size_t size = 0; size < file.size(); ++size) {
    const ExactCopy copy(std::string_view(file).substr(0, size));
    const auto result = SafetensorsFile::Parse(copy.view());
    ASSERT_EQ(result.status().code(), StatusCode::kInvalidArgument) << size << " bytes: " << result.status();
  }
}

TEST(Safetensors, MutationsAreRefusedOrSafe) {
  const std::string file = Valid();
  std::mt19937_64 rng(20250315);
  int refused = 0;
  int opened = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    const ExactCopy copy(Mutate(file, rng));
    const AllocationProbe probe;
    const auto result = SafetensorsFile::Parse(copy.view());
    EXPECT_LT(probe.bytes(), 32768 + 64 * copy.view().size());
    if (!result.ok()) {
      ++refused;
      EXPECT_LT(result.status().message().size(), 400u);
      continue;
    }
    ++opened;
    for (const std::string_view name : (*result)->TensorNames()) {
      const auto view = (*result)->Tensor(name);
      if (!view.ok()) continue;
      std::vector<float> values(static_cast<size_t>(view->rows * view->cols));
      Dequantize(view->dtype, view->data, view->rows * view->cols, values.data());
    }
  }
  EXPECT_GT(refused, kRounds / 10);
  EXPECT_GT(opened, kRounds / 100);
}

}  // namespace
}  // namespace lukv
