#include "kernels/cuda/op_context.h"

#include <cstring>

namespace lukv::cuda {
namespace {

constexpr size_t kAlignment = 256;

}  // namespace

Workspace::~Workspace() {
  if (memory_ != nullptr) cudaFree(memory_);
}

size_t Workspace::Grown(size_t bytes) { return (bytes + bytes / 2 + kAlignment - 1) / kAlignment * kAlignment; }

cudaError_t Workspace::Get(size_t bytes, void** memory) {
  if (bytes > bytes_) {
    const size_t wanted = Grown(bytes);
    LUKV_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_));
    if (memory_ != nullptr) LUKV_CUDA_RETURN_IF_ERROR(cudaFree(memory_));
    memory_ = nullptr;
    bytes_ = 0;
    ++generation_;
    LUKV_CUDA_RETURN_IF_ERROR(cudaMalloc(&memory_, wanted));
    bytes_ = wanted;
  }
  *memory = memory_;
  return cudaSuccess;
}

Uploads::~Uploads() {
  for (cudaEvent_t event : copied_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (pinned_ != nullptr) cudaFreeHost(pinned_);
  if (device_ != nullptr) cudaFree(device_);
}

cudaError_t Uploads::Open() {
  if (pinned_ == nullptr) LUKV_CUDA_RETURN_IF_ERROR(cudaMallocHost(&pinned_, kDeviceBytes));
  if (device_ == nullptr) LUKV_CUDA_RETURN_IF_ERROR(cudaMalloc(&device_, kDeviceBytes));
  for (cudaEvent_t& event : copied_) {
    if (event == nullptr) LUKV_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  return cudaSuccess;
}

// The slot whose last use lies longest back; waits until its copy is done.
cudaError_t Uploads::NextSlot(int* slot) {
  if (next_ == 0) LUKV_CUDA_RETURN_IF_ERROR(Open());
  *slot = next_ % kSlots;
  if (next_ >= kSlots) LUKV_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(copied_[*slot]));
  ++next_;
  return cudaSuccess;
}

cudaError_t Uploads::Copy(void* device, const void* host, size_t bytes) {
  const char* from = static_cast<const char*>(host);
  char* to = static_cast<char*>(device);
  while (bytes > 0) {
    const size_t part = bytes < kMaxBytes ? bytes : kMaxBytes;
    int slot = 0;
    LUKV_CUDA_RETURN_IF_ERROR(NextSlot(&slot));
    char* const pinned = static_cast<char*>(pinned_) + static_cast<size_t>(slot) * kMaxBytes;
    std::memcpy(pinned, from, part);
    LUKV_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(to, pinned, part, cudaMemcpyHostToDevice, stream_));
    LUKV_CUDA_RETURN_IF_ERROR(cudaEventRecord(copied_[slot], stream_));
    from += part;
    to += part;
    bytes -= part;
  }
  return cudaSuccess;
}

cudaError_t Uploads::Put(const void* host, size_t bytes, const void** device) {
  if (bytes > kMaxBytes) return cudaErrorInvalidValue;
  if (next_ == 0) LUKV_CUDA_RETURN_IF_ERROR(Open());
  char* const to = static_cast<char*>(device_) + static_cast<size_t>(next_ % kSlots) * kMaxBytes;
  *device = to;
  return Copy(to, host, bytes);
}

}  // namespace lukv::cuda
