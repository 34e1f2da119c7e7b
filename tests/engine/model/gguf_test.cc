#include "engine/model/gguf.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/engine/model/gguf_builder.h"
#include "tests/engine/model/mutate.h"
#include "tests/engine/model/status_matchers.h"
#include "tests/engine/model/tiny_gguf.h"

namespace lukv {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

void ExpectRefused(const std::string& file, const std::string& words) {
  const ExactCopy copy(file);
  ExpectStatus(GgufFile::Parse(copy.view()).status(), StatusCode::kInvalidArgument, words);
}

std::string F32Data(size_t n) { return std::string(4 * n, '\x3f'); }

class GgufValues : public testing::Test {
 protected:
  GgufValues() {
    GgufBuilder builder;
    builder.AddString("string", "naïve")
        .AddString("empty", "")
        .Add("u8", uint8_t{200})
        .Add("i8", int8_t{-100})
        .Add("u16", uint16_t{60000})
        .Add("i16", int16_t{-30000})
        .Add("u32", uint32_t{4000000000})
        .Add("i32", int32_t{-2000000000})
        .Add("u64", uint64_t{1} << 62)
        .Add("u64_max", UINT64_MAX)
        .Add("i64", INT64_MIN)
        .Add("f32", 1.5f)
        .Add("f64", -0.1)
        .Add("yes", true)
        .Add("no", false)
        .AddStrings("strings", {"a", "", "ccc"})
        .AddArray<int32_t>("ints", {3, -4})
        .AddArray<uint8_t>("bytes", {7, 255})
        .AddArray<uint64_t>("longs", {1, UINT64_MAX})
        .AddArray<float>("floats", {0.5f, -2.0f})
        .AddArray<double>("doubles", {0.25})
        .AddArray<int32_t>("none", {});
    bytes_ = builder.Build();
    auto file = GgufFile::Parse(bytes_);
    EXPECT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }

  std::string bytes_;
  std::unique_ptr<GgufFile> file_;
};

TEST_F(GgufValues, Scalars) {
  EXPECT_EQ(*file_->GetString("string"), "naïve");
  EXPECT_EQ(*file_->GetString("empty"), "");
  EXPECT_EQ(*file_->GetInt("u8"), 200);
  EXPECT_EQ(*file_->GetInt("i8"), -100);
  EXPECT_EQ(*file_->GetInt("u16"), 60000);
  EXPECT_EQ(*file_->GetInt("i16"), -30000);
  EXPECT_EQ(*file_->GetInt("u32"), 4000000000);
  EXPECT_EQ(*file_->GetInt("i32"), -2000000000);
  EXPECT_EQ(*file_->GetInt("u64"), int64_t{1} << 62);
  EXPECT_EQ(*file_->GetInt("i64"), INT64_MIN);
  EXPECT_EQ(*file_->GetFloat("f32"), 1.5);
  EXPECT_EQ(*file_->GetFloat("f64"), -0.1);
  EXPECT_EQ(*file_->GetFloat("i8"), -100.0);
  EXPECT_TRUE(*file_->GetBool("yes"));
  EXPECT_FALSE(*file_->GetBool("no"));
  EXPECT_TRUE(file_->Has("u8"));
  EXPECT_FALSE(file_->Has("u"));
  EXPECT_EQ(file_->file_bytes(), bytes_.size());
}

TEST_F(GgufValues, Arrays) {
  EXPECT_THAT(*file_->GetStrings("strings"), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*file_->GetInts("ints"), ElementsAre(3, -4));
  EXPECT_THAT(*file_->GetInts("bytes"), ElementsAre(7, 255));
  EXPECT_THAT(*file_->GetInts("none"), ElementsAre());
  EXPECT_THAT(*file_->GetFloats("floats"), ElementsAre(0.5f, -2.0f));
  EXPECT_THAT(*file_->GetFloats("doubles"), ElementsAre(0.25f));
  EXPECT_THAT(*file_->GetFloats("ints"), ElementsAre(3.0f, -4.0f));
}

TEST_F(GgufValues, MissingKeysAndWrongTypesAreNamed) {
  ExpectStatus(file_->GetInt("gone").status(), StatusCode::kNotFound, "key \"gone\" is missing");
  ExpectStatus(file_->GetStrings("gone").status(), StatusCode::kNotFound, "key \"gone\" is missing");
  ExpectStatus(file_->GetInt("string").status(), StatusCode::kInvalidArgument,
               "key \"string\" is of type string, not an integer");
  ExpectStatus(file_->GetInt("f32").status(), StatusCode::kInvalidArgument, "is of type float32, not an integer");
  ExpectStatus(file_->GetInt("yes").status(), StatusCode::kInvalidArgument, "is of type bool, not an integer");
  ExpectStatus(file_->GetInt("ints").status(), StatusCode::kInvalidArgument, "is of type array of int32");
  ExpectStatus(file_->GetFloat("string").status(), StatusCode::kInvalidArgument, "is of type string, not a number");
  ExpectStatus(file_->GetBool("u8").status(), StatusCode::kInvalidArgument, "is of type uint8, not bool");
  ExpectStatus(file_->GetString("strings").status(), StatusCode::kInvalidArgument, "is of type array of string");
  ExpectStatus(file_->GetStrings("string").status(), StatusCode::kInvalidArgument, "not an array of strings");
  ExpectStatus(file_->GetInts("floats").status(), StatusCode::kInvalidArgument, "not an array of integers");
  ExpectStatus(file_->GetFloats("strings").status(), StatusCode::kInvalidArgument, "not an array of numbers");
}

TEST_F(GgufValues, IntegersThatDoNotFitAreRefused) {
  ExpectStatus(file_->GetInt("u64_max").status(), StatusCode::kInvalidArgument,
               "key \"u64_max\" holds 18446744073709551615, which does not fit");
  ExpectStatus(file_->GetInts("longs").status(), StatusCode::kInvalidArgument, "does not fit");
}

TEST(GgufTensors, AreViewsIntoTheFile) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder builder;
    builder.version = version;
    builder.AddTensor("matrix", kGgufF32, {3, 2}, F32Data(6))
        .AddTensor("vector", kGgufF16, {5}, std::string(10, 'v'))
        .AddTensor("quantised", kGgufQ8_0, {64, 3, 1, 1}, std::string(3 * 68, 'q'));
    const std::string bytes = builder.Build();
    const auto file = GgufFile::Parse(bytes);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_THAT((*file)->TensorNames(), ElementsAre("matrix", "vector", "quantised"));
    EXPECT_TRUE((*file)->HasTensor("vector"));
    EXPECT_FALSE((*file)->HasTensor("vecto"));

    const auto vector = (*file)->Tensor("vector");
    ASSERT_TRUE(vector.ok()) << vector.status();
    EXPECT_EQ(vector->dtype, DType::kF16);
    EXPECT_EQ(vector->rows, 1);
    EXPECT_EQ(vector->cols, 5);
    EXPECT_EQ(static_cast<char>(vector->data[9]), 'v');
    const auto quantised = (*file)->Tensor("quantised");
    ASSERT_TRUE(quantised.ok()) << quantised.status();
    EXPECT_EQ(quantised->dtype, DType::kQ8_0);
    EXPECT_EQ(quantised->rows, 3);
    EXPECT_EQ(quantised->cols, 64);
    EXPECT_EQ(reinterpret_cast<const char*>(quantised->data) + 3 * 68, bytes.data() + bytes.size());
  }
}

TEST(GgufTensors, OtherAlignments) {
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufBuilder builder;
    builder.alignment = alignment;
    builder.Add("general.alignment", alignment);
    builder.AddTensor("a", kGgufF32, {3}, F32Data(3)).AddTensor("b", kGgufF32, {1}, Bytes(7.0f));
    const std::string bytes = builder.Build();
    const auto file = GgufFile::Parse(bytes);
    ASSERT_TRUE(file.ok()) << file.status();
    float value = 0;
    Dequantize(DType::kF32, (*file)->Tensor("b")->data, 1, &value);
    EXPECT_EQ(value, 7.0f);
  }
}

TEST(GgufTensors, UnknownTypesAreRefusedByNameWhenAskedFor) {
  GgufBuilder builder;
  builder.AddTensor("known", kGgufF32, {1}, F32Data(1))
      .AddTensor("five", kGgufQ5_0, {32}, std::string(22, 'x'))
      .AddTensor("new", 999, {32}, "x")
      .AddTensor("cube", kGgufF32, {1, 1, 2}, F32Data(2));
  const std::string bytes = builder.Build();
  const auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Tensor("known").ok());
  ExpectStatus((*file)->Tensor("five").status(), StatusCode::kUnimplemented,
               "tensor \"five\" is of type Q5_0; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K");
  ExpectStatus((*file)->Tensor("new").status(), StatusCode::kUnimplemented, "tensor \"new\" is of type number 999");
  ExpectStatus((*file)->Tensor("cube").status(), StatusCode::kUnimplemented, "3 dimensions");
  ExpectStatus((*file)->Tensor("gone").status(), StatusCode::kNotFound, "tensor \"gone\" is missing");
}

TEST(GgufHeader, OtherFilesAreRefused) {
  ExpectRefused("", "the file is empty");
  ExpectRefused("PK\x03\x04 and so on", "not a GGUF file: it begins with \"PK\\x03\\x04\"");
  ExpectRefused("GG", "not a GGUF file: it begins with \"GG\"");
  GgufBuilder builder;
  for (const uint32_t version : {0x03000000u, 1u, 4u}) {
    builder.version = version;
    const std::string file = builder.Build();
    ExpectStatus(GgufFile::Parse(file).status(), StatusCode::kUnimplemented,
                 version > 100 ? "big-endian" : "GGUF version " + std::to_string(version) + "; only 2 and 3 are read");
  }
}

TEST(GgufHeader, CountsAreHeldAgainstTheSize) {
  GgufBuilder builder;
  builder.Add("a", uint32_t{1});
  builder.n_values_claim = 1000;
  ExpectRefused(builder.Build(), "claims 1000 metadata keys, more than the file can hold");
  builder.n_values_claim = UINT64_MAX;
  ExpectRefused(builder.Build(), "metadata keys, more than the file can hold");
  builder.n_values_claim.reset();
  builder.n_tensors_claim = UINT64_MAX / 32;
  ExpectRefused(builder.Build(), "tensors, more than the file can hold");
}

TEST(GgufMetadata, DamageIsNamed) {
  ExpectRefused(GgufBuilder().Add("twice", 1.0f).Add("twice", 2.0f).Build(), "key \"twice\" is there twice");
  ExpectRefused(GgufBuilder().AddRaw("odd", 13, "abcdefgh").Build(), "key \"odd\" has unknown value type 13");
  ExpectRefused(GgufBuilder().AddRaw("odd", 0xffffffff, "abcdefgh").Build(), "has unknown value type 4294967295");
  ExpectRefused(GgufBuilder().AddRaw("truth", 7, "\x02").Build(), "key \"truth\" has a bool that is 2");
  ExpectRefused(GgufBuilder().AddRaw("long", kGgufString, Bytes(uint64_t{100}) + "short").Build(),
                "the file ends inside the value of key \"long\"");
  ExpectRefused(GgufBuilder().AddRaw("long", kGgufString, Bytes(UINT64_MAX) + "short").Build(),
                "18446744073709551615 bytes needed, 5 left");
  const std::string nested = Bytes(uint32_t{kGgufArray}) + Bytes(uint64_t{1});
  ExpectRefused(GgufBuilder().AddRaw("deep", kGgufArray, nested + nested + nested).Build(),
                "key \"deep\" is an array of arrays");
  ExpectRefused(GgufBuilder().AddRaw("many", kGgufArray, Bytes(uint32_t{kGgufUint32}) + Bytes(UINT64_MAX / 2)).Build(),
                "key \"many\" claims 9223372036854775807 elements");
  ExpectRefused(
      GgufBuilder().AddRaw("many", kGgufArray, Bytes(uint32_t{kGgufString}) + Bytes(uint64_t{2}) + "12345678").Build(),
      "key \"many\" claims 2 elements");
}

TEST(GgufMetadata, NamesInErrorsArePrintableAndShort) {
  GgufBuilder builder;
  builder.AddRaw(std::string(5000, 'k') + "\n", 77, "");
  builder.Add("rest", uint64_t{0});
  const std::string file = builder.Build();
  const std::string message(GgufFile::Parse(file).status().message());
  EXPECT_LT(message.size(), 300u);
  ExpectRefused(GgufBuilder().AddRaw("line\nbreak\x1b[31m", 77, "12345678").Build(), "line\\nbreak\\x1b[31m");
}

TEST(GgufTensors, DamageIsNamed) {
  const auto with = [](const std::vector<uint64_t>& dims, uint64_t offset, uint32_t type = kGgufF32) {
    GgufBuilder builder;
    builder.AddTensor("a", kGgufF32, {8}, F32Data(8)).AddTensorEntry("bad", type, dims, offset);
    return builder.Build();
  };
  ExpectRefused(with({}, 0), "tensor \"bad\" has 0 dimensions");
  ExpectRefused(with({1, 1, 1, 1, 1}, 0), "tensor \"bad\" has 5 dimensions");
  ExpectRefused(with({4, 0}, 0), "tensor \"bad\" has a dimension of 0");
  ExpectRefused(with({uint64_t{1} << 32, uint64_t{1} << 32}, 0), "the dimensions of tensor \"bad\" overflow");
  ExpectRefused(with({UINT64_MAX}, 0), "the dimensions of tensor \"bad\" overflow");
  ExpectRefused(with({uint64_t{1} << 60}, 0), "tensor \"bad\" ends past the end of the file");
  ExpectRefused(with({33}, 0, kGgufQ8_0), "rows of 33 elements, not a multiple of the 32 of a Q8_0 block");
  ExpectRefused(with({1}, 16), "tensor \"bad\" begins at 16, not a multiple of the alignment 32");
  ExpectRefused(with({1}, 32), "tensor \"bad\" ends past the end of the file: 4 bytes at 32 of 32 bytes of data");
  ExpectRefused(with({1}, UINT64_MAX - 31), "tensor \"bad\" ends past the end of the file");
  ExpectRefused(with({32}, UINT64_MAX - 31, kGgufQ5_0), "tensor \"bad\" ends past the end of the file");
  ExpectRefused(with({2}, 0), "tensors \"a\" and \"bad\" overlap");
  ExpectRefused(
      GgufBuilder().AddTensor("same", kGgufF32, {1}, F32Data(1)).AddTensor("same", kGgufF32, {1}, F32Data(1)).Build(),
      "tensor \"same\" is there twice");
}

TEST(GgufTensors, AlignmentMustBeAPowerOfTwo) {
  for (const uint32_t alignment : {0u, 3u, 48u, UINT32_MAX}) {
    ExpectRefused(GgufBuilder().Add("general.alignment", alignment).Build(),
                  "general.alignment is " + std::to_string(alignment) + ", not a power of two");
  }
  ExpectRefused(GgufBuilder().AddString("general.alignment", "32").Build(), "is of type string, not uint32");
  ExpectRefused(GgufBuilder().Add("general.alignment", 1u << 31).AddTensorEntry("a", kGgufF32, {1}, 0).Build(),
                "the file ends inside the padding before the tensor data");
}

}  // namespace
}  // namespace lukv
