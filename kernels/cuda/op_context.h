// What an op's host side needs beside its arguments. For host code: kernel files include launch.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#define LUKV_CUDA_RETURN_IF_ERROR(expression)                                                      \
  do {                                                                                             \
    if (const cudaError_t lukv_error = (expression); lukv_error != cudaSuccess) return lukv_error; \
  } while (false)

namespace lukv::cuda {

// Shared memory that a kernel may ask for without saying so first.
inline constexpr size_t kPlainSharedBytes = size_t{48} * 1024;

// Device memory for an op's intermediate results: the stream runs ops one after the other, so they share it. Grows when
// an op asks for more than there was so far (which waits for the stream, and fails while a graph is being captured).
class Workspace {
 public:
  explicit Workspace(cudaStream_t stream) : stream_(stream) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // 256-byte aligned; holds until the op's last kernel has run. An op asks once, for all it needs.
  cudaError_t Get(size_t bytes, void** memory);
  // What it grows to for `bytes`: half as much again, so that a growing prompt does not come back every time.
  static size_t Grown(size_t bytes);
  // Changes whenever the memory moved: graphs that were captured before hold its old address.
  int64_t generation() const { return generation_; }

 private:
  const cudaStream_t stream_;
  void* memory_ = nullptr;
  size_t bytes_ = 0;
  int64_t generation_ = 0;
};

// Small host arrays on their way to the device: they go through pinned memory, so that neither the caller's array has
// to live on nor the host has to wait. Not while a graph is being captured.
class Uploads {
 public:
  explicit Uploads(cudaStream_t stream) : stream_(stream) {}
  ~Uploads();
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;

  static constexpr int kSlots = 64;
  static constexpr size_t kMaxBytes = size_t{64} * 1024;  // Of a Put.
  static constexpr size_t kDeviceBytes = kSlots * kMaxBytes;

  // Copies in stream order to `device`.
  cudaError_t Copy(void* device, const void* host, size_t bytes);
  // The same, to memory of its own that holds until `kSlots` uploads later at least.
  cudaError_t Put(const void* host, size_t bytes, const void** device);

 private:
  cudaError_t Open();
  cudaError_t NextSlot(int* slot);

  const cudaStream_t stream_;
  void* pinned_ = nullptr;  // [kSlots, kMaxBytes]
  void* device_ = nullptr;  // [kSlots, kMaxBytes]
  cudaEvent_t copied_[kSlots] = {};
  int next_ = 0;
};

struct OpContext {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  size_t shared_bytes = kPlainSharedBytes;  // That a block may have.
  Workspace* workspace = nullptr;
  Uploads* uploads = nullptr;
};

inline unsigned Blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace lukv::cuda
