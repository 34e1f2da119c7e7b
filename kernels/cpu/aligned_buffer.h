// Memory of the CPU backend: cache-line aligned, on huge pages where it is big.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace lukv::cpu {

struct FreeAligned {
  void operator()(std::byte* data) const;
};
using AlignedBuffer = std::unique_ptr<std::byte[], FreeAligned>;

// 64-byte aligned, uninitialised; never null. RESOURCE_EXHAUSTED with the size when there is not enough.
absl::StatusOr<AlignedBuffer> AllocateAligned(size_t bytes);

}  // namespace lukv::cpu
