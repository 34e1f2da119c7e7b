#include <cstdint>

#include "kernels/cpu/ops.h"

namespace lukv::cpu {

std::byte* OpContext::Scratch(int thread, size_t bytes) {
  constexpr size_t kAlignment = 64;
  std::vector<std::byte>& scratch = scratch_[static_cast<size_t>(thread + 1)];
  if (scratch.size() < bytes + kAlignment - 1) {
    scratch = {};  // Freed first: the old contents need not survive.
    scratch.resize(bytes + kAlignment - 1);
  }
  const uintptr_t address = reinterpret_cast<uintptr_t>(scratch.data());
  return scratch.data() + (kAlignment - address % kAlignment) % kAlignment;
}

}  // namespace lukv::cpu
