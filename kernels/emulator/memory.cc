#include "kernels/emulator/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lukv::emulator {
namespace {

constexpr size_t kAlignment = 256;  // CUDA C++ programming guide, "Device Memory Accesses".
constexpr int kPoison = 0xff;
// Bigger allocations stay as the system gives them (zeros, without a page behind them until they are used).
constexpr size_t kPoisonedBytes = size_t{16} << 20;

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

bool HoldsRange(const std::map<uintptr_t, size_t>& allocations, uintptr_t start, size_t bytes) {
  auto next = allocations.upper_bound(start);
  if (next == allocations.begin()) return false;
  --next;
  const size_t offset = start - next->first;
  return offset <= next->second && bytes <= next->second - offset;
}

void* Reserve(size_t bytes, int protection) {
  void* const memory = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("lukv emulator: no address space for device memory");
    std::abort();
  }
  return memory;
}

}  // namespace

DevicePages device_pages;

DeviceMemory& DeviceMemory::Get() {
  static DeviceMemory* const memory = new DeviceMemory;
  return *memory;
}

DeviceMemory::DeviceMemory() {
  if (kAddressSanitizer) return;
  device_pages.base = reinterpret_cast<uintptr_t>(Reserve(kDeviceSpan, PROT_NONE));
  device_pages.valid =
      static_cast<uint16_t*>(Reserve(kDeviceSpan / kPageBytes * sizeof(uint16_t), PROT_READ | PROT_WRITE));
  next_ = device_pages.base;
}

// A free range for `bytes`, a multiple of the page, with a free page behind it.
uintptr_t DeviceMemory::Place(size_t bytes) {
  for (int round = 0; round < 2; ++round) {
    uintptr_t place = next_;
    for (auto it = allocations_.lower_bound(place); it != allocations_.end(); ++it) {
      if (it->first - place >= bytes + kPageBytes) break;
      place = it->first + RoundUp(it->second, kPageBytes) + kPageBytes;
    }
    if (place - device_pages.base + bytes + kPageBytes <= kDeviceSpan) return place;
    next_ = device_pages.base;  // The range is used up: from its start again.
  }
  return 0;
}

void* DeviceMemory::Allocate(size_t bytes) {
  if (bytes > free_bytes()) return nullptr;
  uintptr_t start = 0;
  if (kAddressSanitizer) {
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
    start = reinterpret_cast<uintptr_t>(memory);
  } else {
    const size_t rounded = RoundUp(bytes, kPageBytes);
    start = Place(rounded);
    if (start == 0) return nullptr;
    next_ = start + rounded + kPageBytes;
    const size_t page = (start - device_pages.base) >> kPageShift;
    std::fill_n(device_pages.valid + page, rounded >> kPageShift, static_cast<uint16_t>(kPageBytes));
    if (bytes % kPageBytes != 0)
      device_pages.valid[page + bytes / kPageBytes] = static_cast<uint16_t>(bytes % kPageBytes);
    freed_.erase(freed_.lower_bound(start), freed_.lower_bound(next_));
  }
  if (bytes <= kPoisonedBytes) {
    Open();
    std::memset(reinterpret_cast<void*>(start), kPoison, bytes);
    Close();
  }
  allocations_[start] = bytes;
  used_bytes_ += bytes;
  return reinterpret_cast<void*>(start);
}

bool DeviceMemory::Free(void* memory) {
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations_.end()) return false;
  const auto [start, bytes] = *found;
  used_bytes_ -= bytes;
  allocations_.erase(found);
  if (kAddressSanitizer) {
    std::free(memory);
    return true;
  }
  const size_t rounded = RoundUp(bytes, kPageBytes);
  std::fill_n(device_pages.valid + ((start - device_pages.base) >> kPageShift), rounded >> kPageShift, uint16_t{0});
  madvise(memory, rounded, MADV_DONTNEED);
  freed_[start] = bytes;
  return true;
}

bool DeviceMemory::Holds(const void* memory, size_t bytes) const {
  return HoldsRange(allocations_, reinterpret_cast<uintptr_t>(memory), bytes);
}

bool DeviceMemory::Contains(const void* memory) const {
  if (kAddressSanitizer) return HoldsRange(allocations_, reinterpret_cast<uintptr_t>(memory), 0);
  return reinterpret_cast<uintptr_t>(memory) - device_pages.base < kDeviceSpan;
}

void DeviceMemory::Open() {
  if (open_++ == 0) SetLocked(false);
}

void DeviceMemory::Close() {
  if (--open_ == 0 && ++closings_ % kClosingsPerLock == 0) SetLocked(true);
}

void DeviceMemory::SetLocked(bool locked) {
  if (kAddressSanitizer || locked == locked_) return;
  locked_ = locked;
  const int protection = locked ? PROT_NONE : PROT_READ | PROT_WRITE;
  if (mprotect(reinterpret_cast<void*>(device_pages.base), kDeviceSpan, protection) != 0) {
    std::perror("lukv emulator: device memory cannot be locked");
    std::abort();
  }
}

std::string DeviceMemory::Describe(uintptr_t address) const {
  const auto before = [address](const std::map<uintptr_t, size_t>& ranges) {
    auto next = ranges.upper_bound(address);
    return next == ranges.begin() ? ranges.end() : --next;
  };
  const auto live = before(allocations_);
  const auto dead = before(freed_);
  if (dead != freed_.end() && address - dead->first < dead->second) {
    return std::to_string(address - dead->first) + " bytes into freed memory of " + std::to_string(dead->second) +
           " bytes";
  }
  if (live == allocations_.end()) return "device memory before the first allocation";
  return std::to_string(address - live->first - live->second) + " bytes past the end of an allocation of " +
         std::to_string(live->second) + " bytes";
}

PinnedMemory& PinnedMemory::Get() {
  static PinnedMemory* const memory = new PinnedMemory;
  return *memory;
}

void* PinnedMemory::Allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  std::memset(memory, kPoison, bytes);
  allocations_[reinterpret_cast<uintptr_t>(memory)] = bytes;
  return memory;
}

bool PinnedMemory::Free(void* memory) {
  if (allocations_.erase(reinterpret_cast<uintptr_t>(memory)) == 0) return false;
  std::free(memory);
  return true;
}

bool PinnedMemory::Holds(const void* memory, size_t bytes) const {
  return HoldsRange(allocations_, reinterpret_cast<uintptr_t>(memory), bytes);
}

}  // namespace lukv::emulator
