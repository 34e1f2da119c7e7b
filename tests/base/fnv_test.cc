#include "base/fnv.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

uint64_t OfBytes(std::string_view bytes) {
  Fnv1a64 hash;
  hash.AddBytes(bytes);
  return hash.value();
}

// Values of the draft's test vectors.
TEST(Fnv1a64, KnownValues) {
  EXPECT_EQ(OfBytes(""), 0xcbf29ce484222325u);
  EXPECT_EQ(OfBytes("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(OfBytes("foobar"), 0x85944171f73967e8u);
}

TEST(Fnv1a64, NumbersGoInLowestByteFirst) {
  Fnv1a64 hash;
  hash.Add(0x6261);
  EXPECT_EQ(hash.value(), OfBytes(std::string_view("ab\0\0\0\0\0\0", 8)));
}

TEST(Fnv1a64, TextsKeepTheirBorders) {
  Fnv1a64 one, other;
  one.AddText("ab");
  one.AddText("c");
  other.AddText("a");
  other.AddText("bc");
  EXPECT_NE(one.value(), other.value());
}

}  // namespace
}  // namespace lukv
