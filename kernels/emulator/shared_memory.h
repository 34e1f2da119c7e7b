// The shared memory of the running block, and who did what to it: a read of bytes that nobody wrote, two accesses that
// nothing orders, an access to bytes that a cp.async is still writing.
//
// Time counts the barriers and __syncwarps of the block. For every byte there are stamps (when and by which thread) of
// its last write and of two reads by different threads. An access is ordered after another if that was the same
// thread's, or before the last barrier, or before a __syncwarp that, perhaps over others, both lanes took part in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace lukv::emulator {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

inline constexpr size_t kMaxStaticShared = 48 * 1024;
inline constexpr size_t kMaxDynamicShared = 227 * 1024;

// Static arrays with gaps between them, then the dynamic one, then a gap.
inline constexpr size_t kStaticSpan = 96 * 1024;
inline constexpr size_t kSharedSpan = kStaticSpan + 256 * 1024;
inline constexpr size_t kGranule = 16;

struct SharedMemory {
  alignas(4096) uint8_t bytes[kSharedSpan];
  uint8_t valid[kSharedSpan / kGranule];  // Bytes of each granule that may be used, from its start on.
};
extern SharedMemory shared_memory __attribute__((visibility("hidden")));
inline uintptr_t SharedBase() { return reinterpret_cast<uintptr_t>(shared_memory.bytes); }

// A stamp: bit 30 pending (a cp.async), bits 11 to 29 the time, bit 10 whether it was atomic, bits 0 to 9 the thread.
// All are below 2^31, so that vector code can compare them.
struct Stamps {
  static constexpr int32_t kPending = 1 << 30;
  static constexpr int kTimeShift = 11;
  static constexpr int32_t kAtomic = 1 << 10;
  static constexpr int32_t kThread = kAtomic - 1;

  int32_t writer[kSharedSpan];
  int32_t reader[kSharedSpan];
  int32_t other_reader[kSharedSpan];
  // Where in the kernel, of the last write and read of a word.
  const void* write_site[kSharedSpan / 4];
  const void* read_site[kSharedSpan / 4];
};
struct Clock {
  int32_t start = 0;       // The least stamp of the running block.
  int32_t floor = 0;       // The least stamp since its last barrier.
  int32_t warp_floor = 0;  // The least stamp since all live lanes of the running thread's warp last met.
  int32_t self = 0;        // The running thread.
  int32_t stamp = 0;       // Its stamp now.
};
extern int32_t warp_floors[32] __attribute__((visibility("hidden")));
extern Stamps stamps __attribute__((visibility("hidden")));
extern Clock shared_clock __attribute__((visibility("hidden")));

// Stamps are compared four at a time where an access has as many bytes. Comparisons give masks, all ones for true.
typedef int32_t FourStamps __attribute__((vector_size(16)));
inline int32_t Less(int32_t a, int32_t b) { return -static_cast<int32_t>(a < b); }
inline FourStamps Less(FourStamps a, int32_t b) { return a < b; }
inline int32_t Equal(int32_t a, int32_t b) { return -static_cast<int32_t>(a == b); }
inline FourStamps Equal(FourStamps a, int32_t b) { return a == b; }
inline bool AllTrue(int32_t mask) { return mask != 0; }
inline bool AllTrue(FourStamps mask) {
  uint64_t halves[2];
  __builtin_memcpy(halves, &mask, sizeof(mask));
  return (halves[0] & halves[1]) == ~uint64_t{0};
}
template <typename T>
inline T LoadStamps(const int32_t* from) {
  T loaded;
  __builtin_memcpy(&loaded, from, sizeof(T));
  return loaded;
}
template <typename T>
inline void StoreStamps(int32_t* to, T values) {
  __builtin_memcpy(to, &values, sizeof(T));
}

// Whether accesses with these stamps surely come before what the clock's thread does now; with kSynced also those that
// a __syncwarp put before it.
template <bool kSynced, typename T>
inline T SurelyBefore(T before, const Clock& clock) {
  const T plain = Less(before, clock.floor) | Equal(before & (Stamps::kPending | Stamps::kThread), clock.self);
  if constexpr (!kSynced) return plain;
  return plain |
         (Less(before, clock.warp_floor) & Less((before ^ clock.self) & (Stamps::kPending | Stamps::kThread), 32));
}

// Of two readers one is the last. The other is kept while it is of another warp: within a warp the next __syncwarp may
// order them.
template <typename T>
inline void NoteReaders(size_t offset, const Clock& clock) {
  const T last = LoadStamps<T>(stamps.reader + offset);
  const T kept = LoadStamps<T>(stamps.other_reader + offset);
  const T same_warp = Less((kept ^ clock.self) & Stamps::kThread, 32);
  const T replace = ~SurelyBefore<false>(last, clock) & (Less(kept, clock.floor) | same_warp);
  StoreStamps(stamps.other_reader + offset, (last & replace) | (kept & ~replace));
  StoreStamps(stamps.reader + offset, T{} | clock.stamp);
}

template <Access kAccess, unsigned kBytes, bool kSynced>
inline bool RecordIfRight(size_t offset, const void* site) {
  using T = std::conditional_t<kBytes % 4 == 0, FourStamps, int32_t>;
  constexpr size_t kStep = sizeof(T) / sizeof(int32_t);
  const Clock clock = shared_clock;
  T fine = ~T{};
  for (size_t at = offset; at < offset + kBytes; at += kStep) {
    const T writer = LoadStamps<T>(stamps.writer + at);
    fine &= SurelyBefore<kSynced>(writer, clock);
    if constexpr (kAccess == Access::kRead) {
      fine &= ~Less(writer, clock.start);
    } else {
      fine &= SurelyBefore<kSynced>(LoadStamps<T>(stamps.reader + at), clock);
      fine &= SurelyBefore<kSynced>(LoadStamps<T>(stamps.other_reader + at), clock);
    }
  }
  if (!AllTrue(fine)) return false;
  for (size_t at = offset; at < offset + kBytes; at += kStep) {
    if constexpr (kAccess == Access::kRead) {
      NoteReaders<T>(at, clock);
    } else {
      StoreStamps(stamps.writer + at, T{} | clock.stamp);
    }
  }
  (kAccess == Access::kRead ? stamps.read_site : stamps.write_site)[offset / 4] = site;
  return true;
}
template <Access kAccess, unsigned kBytes>
__attribute__((noinline)) bool RecordIfSynced(size_t offset, const void* site) {
  return RecordIfRight<kAccess, kBytes, true>(offset, site);
}

// Records an access that is surely right. Otherwise false, and nothing is recorded: ask FaultOf.
template <Access kAccess, unsigned kBytes>
inline bool SharedAllows(size_t offset, const void* site) {
  if (kAccess == Access::kAtomic || offset % kGranule + kBytes > shared_memory.valid[offset / kGranule]) return false;
  return RecordIfRight<kAccess, kBytes, false>(offset, site) || RecordIfSynced<kAccess, kBytes>(offset, site);
}

// What is wrong with an access within granules; empty if nothing, then it is recorded.
std::string FaultOf(Access access, size_t offset, size_t bytes, const void* site);
// A cp.async of 16 bytes was asked for: until EndCopy they are under way. Both by the running thread.
std::string BeginCopy(size_t offset, const void* site);
void EndCopy(size_t offset);
// REQUIRES: within a granule.
bool InSharedArray(size_t offset, size_t bytes);

// Before a launch, before each of its blocks, and when another thread of the block goes on.
void PrepareSharedMemory(size_t limit);  // Of static and dynamic arrays together.
void StartSharedMemory(size_t dynamic_bytes);
inline void SetSharedThread(unsigned number) {
  shared_clock.stamp += static_cast<int32_t>(number) - shared_clock.self;
  shared_clock.self = static_cast<int32_t>(number);
  shared_clock.warp_floor = warp_floors[number / 32];
}
// Of the static arrays that the running launch has asked for so far.
size_t StaticSharedBytes();

// All threads met at the barrier; the lanes of `mask` of the running thread's warp met, `live` are those that have not
// exited.
void OrderBlock();
void OrderWarp(unsigned warp, unsigned mask, unsigned live);

}  // namespace lukv::emulator
