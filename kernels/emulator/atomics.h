// CUDA's atomic functions. Blocks and threads take turns on one processor, so an update needs no lock; it is a place
// where the scheduler may go on with another thread.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/emulator/site.h"

namespace lukv::emulator {

// Checks the access, and lets other threads go first now and then.
void BeforeAtomic(void* address, unsigned bytes, Site site);

// *address = update(old); returns old.
template <typename T, typename Update>
__attribute__((no_sanitize_thread)) inline T Atomic(T* address, Update update, Site site) {
  BeforeAtomic(address, sizeof(T), site);
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace lukv::emulator

inline int atomicAdd(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)); },
      site);
}
inline unsigned atomicAdd(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old + value; }, site);
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return old + value; }, site);
}
inline float atomicAdd(float* address, float value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](float old) { return old + value; }, site);
}
inline int atomicSub(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)); },
      site);
}
inline unsigned atomicSub(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old - value; }, site);
}
inline int atomicMax(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return old < value ? value : old; }, site);
}
inline unsigned atomicMax(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old < value ? value : old; }, site);
}
inline long long atomicMax(long long* address, long long value,
                           lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](long long old) { return old < value ? value : old; }, site);
}
inline unsigned long long atomicMax(unsigned long long* address, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return old < value ? value : old; }, site);
}
inline int atomicMin(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return value < old ? value : old; }, site);
}
inline unsigned atomicMin(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return value < old ? value : old; }, site);
}
inline long long atomicMin(long long* address, long long value,
                           lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](long long old) { return value < old ? value : old; }, site);
}
inline unsigned long long atomicMin(unsigned long long* address, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return value < old ? value : old; }, site);
}
inline int atomicExch(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int) { return value; }, site);
}
inline unsigned atomicExch(unsigned* address, unsigned value,
                           lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned) { return value; }, site);
}
inline unsigned long long atomicExch(unsigned long long* address, unsigned long long value,
                                     lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long) { return value; }, site);
}
inline float atomicExch(float* address, float value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](float) { return value; }, site);
}
inline int atomicAnd(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return old & value; }, site);
}
inline unsigned atomicAnd(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old & value; }, site);
}
inline unsigned long long atomicAnd(unsigned long long* address, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return old & value; }, site);
}
inline int atomicOr(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return old | value; }, site);
}
inline unsigned atomicOr(unsigned* address, unsigned value,
                         lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old | value; }, site);
}
inline unsigned long long atomicOr(unsigned long long* address, unsigned long long value,
                                   lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return old | value; }, site);
}
inline int atomicXor(int* address, int value, lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](int old) { return old ^ value; }, site);
}
inline unsigned atomicXor(unsigned* address, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned old) { return old ^ value; }, site);
}
inline unsigned long long atomicXor(unsigned long long* address, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [value](unsigned long long old) { return old ^ value; }, site);
}
inline int atomicCAS(int* address, int expected, int value,
                     lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [expected, value](int old) { return old == expected ? value : old; }, site);
}
inline unsigned atomicCAS(unsigned* address, unsigned expected, unsigned value,
                          lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [expected, value](unsigned old) { return old == expected ? value : old; }, site);
}
inline unsigned long long atomicCAS(unsigned long long* address, unsigned long long expected, unsigned long long value,
                                    lukv::emulator::Site site = lukv::emulator::Site::current()) {
  return lukv::emulator::Atomic(
      address, [expected, value](unsigned long long old) { return old == expected ? value : old; }, site);
}
