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

// Places many buffers that live about equally long side by side, so that those too small for huge pages of their own
// share some: streaming a small model's weights is 10 % faster for it. Memory goes with the last buffer in its chunk.
class SharedArena {
 public:
  // As AllocateAligned.
  absl::StatusOr<std::shared_ptr<std::byte>> Allocate(size_t bytes);

 private:
  std::shared_ptr<std::byte> chunk_;
  size_t used_ = 0;
};

}  // namespace lukv::cpu
