// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace lukv {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(std::string_view bytes);
// The same as 64 lower-case hexadecimal digits.
std::string HexSha256(std::string_view bytes);

}  // namespace lukv
