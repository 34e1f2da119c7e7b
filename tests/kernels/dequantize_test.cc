// Every type against the gguf Python package, bit for bit (tests/golden/dequantize).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace lukv {
namespace {

std::vector<char> ReadGolden(const std::string& name) {
  std::ifstream file(std::string(LUKV_TEST_DATA) + "/golden/dequantize/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class DequantizeTest : public testing::TestWithParam<DType> {};

TEST_P(DequantizeTest, EqualsTheReferenceBitForBit) {
  const DTypeTraits& traits = Traits(GetParam());
  const std::vector<char> blocks = ReadGolden(std::string(traits.name) + ".blocks.bin");
  const std::vector<char> raw = ReadGolden(std::string(traits.name) + ".f32.bin");
  std::vector<float> expected(raw.size() / sizeof(float));
  std::memcpy(expected.data(), raw.data(), raw.size());
  ASSERT_GT(expected.size(), 500u);
  ASSERT_EQ(RowBytes(GetParam(), static_cast<int64_t>(expected.size())), blocks.size());

  // One byte off: tensors in a file are not aligned for their elements.
  std::vector<char> shifted(blocks.size() + 1);
  std::memcpy(shifted.data() + 1, blocks.data(), blocks.size());
  std::vector<float> values(expected.size());
  Dequantize(GetParam(), reinterpret_cast<const std::byte*>(shifted.data() + 1), static_cast<int64_t>(expected.size()),
             values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i]))
          << i << ": " << values[i] << " instead of " << expected[i];
    }
  }
}

TEST_P(DequantizeTest, NothingGivesNothing) {
  float untouched = 42;
  Dequantize(GetParam(), nullptr, 0, &untouched);
  EXPECT_EQ(untouched, 42);
}

INSTANTIATE_TEST_SUITE_P(Types, DequantizeTest,
                         testing::Values(DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1,
                                         DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& param_info) { return std::string(Traits(param_info.param).name); });

}  // namespace
}  // namespace lukv
