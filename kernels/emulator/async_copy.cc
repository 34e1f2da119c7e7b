#include <cstring>

#include "kernels/emulator/block.h"
#include "kernels/emulator/device.h"

namespace lukv::emulator {
namespace {
constexpr size_t kCopyBytes = 16;
}

void AsyncCopy16(void* shared, const void* global, bool valid, Site site) {
  const auto misaligned = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % kCopyBytes != 0; };
  if (misaligned(shared) || (valid && misaligned(global))) {
    FailThread("cp.async with a misaligned address", site, __builtin_return_address(0), true);
  }
  Thread& self = CurrentThread();
  self.copies.push_back({.shared = shared, .global = global, .valid = valid, .group = self.groups});
}

void AsyncCommit() { ++CurrentThread().groups; }

// Groups end in the order they were committed.
void AsyncWaitGroups(int pending, Site /*site*/) {
  Thread& self = CurrentThread();
  const int landed = static_cast<int>(self.groups) - pending;
  size_t n = 0;
  for (; n < self.copies.size() && static_cast<int>(self.copies[n].group) < landed; ++n) {
    const AsyncCopy& copy = self.copies[n];
    if (copy.valid) {
      std::memcpy(copy.shared, copy.global, kCopyBytes);
    } else {
      std::memset(copy.shared, 0, kCopyBytes);
    }
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(n));
}

void BeforeAtomic(void* /*address*/, unsigned /*bytes*/, Site /*site*/) { MaybeYield(); }

}  // namespace lukv::emulator
