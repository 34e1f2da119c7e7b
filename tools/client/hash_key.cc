#include "tools/client/hash_key.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/sha256.h"

namespace lukv {
namespace {

// What a server knows is a plain hash: nobody may be able to try all keys.
constexpr size_t kMinBytes = 16;

}  // namespace

absl::StatusOr<std::string> KeyLine(const std::string& name, std::string input) {
  absl::StripAsciiWhitespace(&input);
  if (input.size() < kMinBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a key has at least ", kMinBytes, " characters; this one has ",
                                                   input.size(), " (openssl rand -hex 32 makes a good one)"));
  }
  if (!std::all_of(input.begin(), input.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError("a key has printable ASCII characters and no spaces");
  }
  return absl::StrCat(name, " ", HexSha256(input));
}

}  // namespace lukv
