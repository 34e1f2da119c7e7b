// The device's memory, and the host's as far as the runtime gave it out.
//
// One thread at a time may be in here (Runtime's lock), but for Contains.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace lukv::emulator {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

// Device memory lies in one range of addresses, an allocation at the start of a page and unused pages between them. An
// address is not given out again while there are others. With AddressSanitizer every allocation is one of the heap's,
// so that it knows the ends.
class DeviceMemory {
 public:
  static DeviceMemory& Get();

  // Null when less than `bytes` are left of the total. REQUIRES: bytes > 0.
  void* Allocate(size_t bytes);
  // False if it is not the start of an allocation.
  bool Free(void* memory);
  // Whether [memory, memory + bytes) lies in one allocation.
  bool Holds(const void* memory, size_t bytes) const;
  // Whether the address is the device's, allocated or not.
  bool Contains(const void* memory) const;
  // What is at an address that no allocation holds, for people.
  std::string Describe(uintptr_t address) const;

  // Between Open and Close the memory can be reached. Otherwise host code that touches it ends the program, as with a
  // real device; but only after every kClosingsPerLock-th Close, for locking takes time for every page in use. (Not
  // with AddressSanitizer, whose heap has no lock.)
  static constexpr int kClosingsPerLock = 16;
  void Open();
  void Close();

  size_t total_bytes() const { return total_bytes_; }
  size_t free_bytes() const { return total_bytes_ > used_bytes_ ? total_bytes_ - used_bytes_ : 0; }
  void set_total_bytes(size_t bytes) { total_bytes_ = bytes; }
  int64_t live_allocations() const { return static_cast<int64_t>(allocations_.size()); }

 private:
  DeviceMemory();
  uintptr_t Place(size_t bytes);
  void SetLocked(bool locked);

  std::map<uintptr_t, size_t> allocations_;  // Start and bytes.
  std::map<uintptr_t, size_t> freed_;        // The same of those that are no more, where not used again.
  uintptr_t next_ = 0;                       // Where the search for a place starts.
  size_t used_bytes_ = 0;
  size_t total_bytes_ = size_t{4} << 30;
  int open_ = 0;
  int closings_ = 0;
  bool locked_ = true;
};

// For the check of every access: how many bytes of a page of the device's range may be used, from its start on.
inline constexpr unsigned kPageShift = 12;
inline constexpr size_t kPageBytes = size_t{1} << kPageShift;
inline constexpr size_t kDeviceSpan = kAddressSanitizer ? 0 : size_t{64} << 30;
struct DevicePages {
  uintptr_t base = ~uintptr_t{0};
  uint16_t* valid = nullptr;  // [kDeviceSpan / kPageBytes]
};
extern DevicePages device_pages __attribute__((visibility("hidden")));

// Page-locked memory of the host. The runtime reads it when a copy runs, other host memory when it is asked to copy.
class PinnedMemory {
 public:
  static PinnedMemory& Get();
  void* Allocate(size_t bytes);
  bool Free(void* memory);
  bool Holds(const void* memory, size_t bytes) const;
  bool Contains(const void* memory) const { return Holds(memory, 1); }
  int64_t live_allocations() const { return static_cast<int64_t>(allocations_.size()); }

 private:
  PinnedMemory() = default;
  std::map<uintptr_t, size_t> allocations_;
};

}  // namespace lukv::emulator
