#include "engine/evict/npy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/engine/model/mutate.h"
#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

using absl::StatusCode;

// A file of version 1.0 with this header, not padded (a reader must not ask for it), and these bytes after it.
std::string WithHeader(const std::string& header, const std::string& data) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  return file + header + data;
}

std::string Floats(size_t n) { return std::string(n * sizeof(float), '\0'); }

void ExpectRefused(const std::string& file, const std::string& words) {
  const ExactCopy copy(file);
  ExpectStatus(ParseNpy(copy.view()).status(), StatusCode::kInvalidArgument, words);
}

// What numpy 2.4.6 writes for numpy.arange(6, dtype="<f4").reshape(2, 3).
const std::string kArange =
    std::string("\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 69) +
    std::string(58, ' ') + "\n" + std::string("\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40", 24);

TEST(Npy, ReadsDoublesAsFloats) {
  const double values[] = {0.1, -2.5, 1e-60};
  const absl::StatusOr<NpyArray> array =
      ParseNpy(WithHeader("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
                          std::string(reinterpret_cast<const char*>(values), sizeof(values))));
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->shape, std::vector<int64_t>{3});
  EXPECT_EQ(array->values, (std::vector<float>{0.1f, -2.5f, 0.0f}));
}

TEST(Npy, ReadsAndWritesWhatNumpyWrites) {
  const auto array = ParseNpy(kArange);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array->values, (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(SerializeNpy(*array), kArange);
}

TEST(Npy, EveryShapeComesBack) {
  const std::vector<std::vector<int64_t>> shapes = {{}, {1}, {5}, {0}, {2, 0}, {99, 30, 3}, {1, 2, 1, 2}};
  for (const std::vector<int64_t>& shape : shapes) {
    size_t count = 1;
    for (const int64_t dim : shape) count *= static_cast<size_t>(dim);
    NpyArray array{.shape = shape, .values = std::vector<float>(count)};
    for (size_t i = 0; i < count; ++i) array.values[i] = 1.0f / static_cast<float>(i + 1);
    const std::string file = SerializeNpy(array);
    EXPECT_EQ((file.size() - count * sizeof(float)) % 64, 0u);
    const auto read = ParseNpy(ExactCopy(file).view());
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->shape, shape);
    EXPECT_EQ(read->values, array.values);
  }
}

TEST(Npy, TakesTheHeaderInAnyOrderAndSpacing) {
  for (const char* header : {"{'shape': (3,), 'descr': '<f4', 'fortran_order': False}\n",
                             "{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(3,),}",
                             "  { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 3 , ) , } \n"}) {
    const auto array = ParseNpy(WithHeader(header, Floats(3)));
    ASSERT_TRUE(array.ok()) << array.status() << header;
    EXPECT_EQ(array->shape, std::vector<int64_t>{3});
  }
}

TEST(Npy, RefusesOtherThings) {
  ExpectRefused("", "not an npy file");
  ExpectRefused("PK\x03\x04 more than ten bytes", "not an npy file");
  ExpectRefused("\x93NUMPY\x01", "ends inside its header");
  ExpectRefused(kArange.substr(0, 9), "ends inside its header");
  ExpectRefused(kArange.substr(0, 100), "ends inside its header");
  std::string second = kArange;
  second[6] = 2;
  ExpectRefused(second, "npy version 2.0 is not supported");

  const std::string rest = "'fortran_order': False, 'shape': (3,)}";
  ExpectRefused(WithHeader("{'descr': '<f2', " + rest, Floats(6)), "is of type \"<f2\"");
  ExpectRefused(WithHeader("{'descr': '<f8', " + rest, Floats(5)), "of 64-bit floats is not 20 bytes");
  ExpectRefused(WithHeader("{'descr': '>f4', " + rest, Floats(3)), "is of type \">f4\"");
  ExpectRefused(WithHeader("{'descr': '|O', " + rest, Floats(3)), "is of type \"|O\"");
  ExpectRefused(WithHeader("{'descr': [('a', '<f4')], " + rest, Floats(3)), "has no string where one must be");
  ExpectRefused(WithHeader("{'descr': '<f4', 'fortran_order': True, 'shape': (3,)}", Floats(3)), "Fortran order");
  ExpectRefused(WithHeader("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", Floats(3)), "neither True nor False");
}

TEST(Npy, RefusesDamagedHeaders) {
  const auto with_shape = [](const std::string& shape) {
    return WithHeader("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", Floats(3));
  };
  ASSERT_TRUE(ParseNpy(with_shape("(3,)")).ok());
  ExpectRefused(with_shape("(3)"), "no tuple");
  ExpectRefused(with_shape("[3]"), "has no '('");
  ExpectRefused(with_shape("(-3,)"), "no count");
  ExpectRefused(with_shape("(3.0,)"), "no tuple");
  ExpectRefused(with_shape("(99999999999999999999,)"), "no count");
  ExpectRefused(with_shape("(3,"), "no count");
  ExpectRefused(with_shape("(3, 1"), "has no ')'");
  std::string long_shape = "(3";
  for (int i = 0; i < 32; ++i) long_shape += ", 1";
  ExpectRefused(with_shape(long_shape + ")"), "more than 32 dimensions");

  ExpectRefused(WithHeader("", ""), "has no '{'");
  ExpectRefused(WithHeader("{", ""), "has no string");
  ExpectRefused(WithHeader("{}", ""), "lacks \"descr\"");
  ExpectRefused(WithHeader("{'descr': '<f4'}", ""), "lacks \"fortran_order\"");
  ExpectRefused(WithHeader("{'descr': '<f4', 'fortran_order': False}", ""), "lacks \"shape\"");
  ExpectRefused(WithHeader("{'descr': '<f4', 'descr': '<f4'}", ""), "two entries \"descr\"");
  ExpectRefused(WithHeader("{'desc': '<f4'}", ""), "unknown entry \"desc\"");
  ExpectRefused(WithHeader("{'descr", ""), "without an end");
  ExpectRefused(WithHeader("{'descr' '<f4'}", ""), "has no ':'");
  ExpectRefused(WithHeader("{'descr': '<f4' 'shape': (3,)}", ""), "has no '}'");
  ExpectRefused(WithHeader("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} + 1", Floats(3)),
                "more than the dict");
}

TEST(Npy, RefusesSizesThatDoNotFit) {
  const auto sized = [](const std::string& shape, size_t bytes) {
    return WithHeader("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", std::string(bytes, '\0'));
  };
  ExpectRefused(sized("(3,)", 11), "(3,) of 32-bit floats is not 11 bytes");
  ExpectRefused(sized("(3,)", 13), "13 bytes");
  ExpectRefused(sized("()", 0), "() of 32-bit floats");
  ExpectRefused(sized("(0,)", 4), "(0,) of 32-bit floats");
  // Products that come out small in 64 bits.
  ExpectRefused(sized("(4294967296, 4294967296)", 0), "is not 0 bytes");
  ExpectRefused(sized("(4294967296, 4294967297)", 4), "is not 4 bytes");
  ExpectRefused(sized("(4611686018427387904,)", 0), "is not 0 bytes");
  ExpectRefused(sized("(4611686018427387905,)", 4), "is not 4 bytes");
}

TEST(Npy, HostileFilesAreReadWithinTheirBounds) {
  std::mt19937_64 rng(5);
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    const ExactCopy copy(Mutate(kArange, rng));
    const auto array = ParseNpy(copy.view());
    if (!array.ok()) {
      ASSERT_EQ(array.status().code(), StatusCode::kInvalidArgument);
      continue;
    }
    ++read;
    size_t count = 1;
    for (const int64_t dim : array->shape) count *= static_cast<size_t>(dim);
    ASSERT_EQ(count, array->values.size());
    ASSERT_LE(count * sizeof(float), copy.view().size());
  }
  EXPECT_GT(read, 100);
  EXPECT_LT(read, 10000);
}

}  // namespace
}  // namespace lukv
