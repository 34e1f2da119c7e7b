#include <cstring>

#include "kernels/emulator/access.h"
#include "kernels/emulator/block.h"
#include "kernels/emulator/device.h"

namespace lukv::emulator {
namespace {
constexpr size_t kCopyBytes = 16;  // Also a granule of shared memory.
}

void AsyncCopy16(void* shared, const void* global, bool valid, Site site) {
  const OutsideKernel outside;
  const void* const caller = __builtin_return_address(0);
  const uintptr_t to = reinterpret_cast<uintptr_t>(shared);
  const uintptr_t from = reinterpret_cast<uintptr_t>(global);
  if (to % kCopyBytes != 0 || (valid && from % kCopyBytes != 0)) {
    FailThread("cp.async: misaligned address", site, caller, /*memory=*/true);
  }
  if (!InSharedArray(to - SharedBase(), kCopyBytes)) {
    FailThread("cp.async: does not write to one of the block's shared arrays", site, caller, /*memory=*/true);
  }
  if (valid) {
    if (from - SharedBase() < kSharedSpan) {
      FailThread("cp.async: reads shared memory", site, caller, /*memory=*/true);
    }
    CheckRange(Access::kRead, from, kCopyBytes, caller);
  }
  if (!kAddressSanitizer) {
    std::string fault = BeginCopy(to - SharedBase(), caller);
    if (!fault.empty()) FailThread("cp.async: " + std::move(fault), site, caller);
  }
  Thread& self = CurrentThread();
  self.copies.push_back({.shared = shared, .global = global, .valid = valid, .group = self.groups});
}

void AsyncCommit() {
  const OutsideKernel outside;
  ++CurrentThread().groups;
}

// Groups end in the order they were committed.
void AsyncWaitGroups(int pending) {
  const OutsideKernel outside;
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
    if (!kAddressSanitizer) EndCopy(reinterpret_cast<uintptr_t>(copy.shared) - SharedBase());
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(n));
}

}  // namespace lukv::emulator
