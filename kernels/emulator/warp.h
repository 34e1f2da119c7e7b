// Barriers and what the lanes of a warp do together, under CUDA's names.
#pragma once

#include <cstdint>

#include "kernels/emulator/site.h"

namespace lukv::emulator {

enum class ShuffleKind : uint8_t { kIndex, kUp, kDown, kXor };

void SyncThreads(Site site);
void SyncWarp(unsigned mask, Site site);
// The bits of the lane that `kind` and `argument` select within groups of `width` lanes.
uint64_t Shuffle(ShuffleKind kind, unsigned mask, uint64_t bits, int argument, int width, Site site);
unsigned Ballot(unsigned mask, bool predicate, Site site);

template <typename T>
inline T ShuffleAs(ShuffleKind kind, unsigned mask, T value, int argument, int width, Site site) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = Shuffle(kind, mask, bits, argument, width, site);
  __builtin_memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

}  // namespace lukv::emulator

inline void __syncthreads(lukv::emulator::Site site = lukv::emulator::Site::current()) {
  lukv::emulator::SyncThreads(site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  lukv::emulator::SyncWarp(mask, site);
}
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
                     lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::ShuffleAs(lukv::emulator::ShuffleKind::kIndex, mask, value, lane, width, site);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::ShuffleAs(lukv::emulator::ShuffleKind::kUp, mask, value, static_cast<int>(delta), width, site);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::ShuffleAs(lukv::emulator::ShuffleKind::kDown, mask, value, static_cast<int>(delta), width,
                                   site);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                         lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::ShuffleAs(lukv::emulator::ShuffleKind::kXor, mask, value, lanes, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Ballot(mask, predicate != 0, site) == mask;
}
// Fences order nothing that the emulator would reorder.
inline void __threadfence() {}
inline void __threadfence_block() {}
