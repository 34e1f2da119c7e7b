// CUDA's atomic functions. Blocks and threads take turns on one processor, so an update needs no lock; it is a place
// where the scheduler may go on with another thread.
#pragma once

#include <cstdint>

namespace lukv::emulator {

// Checks the access, and lets other threads go first now and then. `return_address` is in the kernel.
void BeforeAtomic(void* address, unsigned bytes, const void* return_address);

// *address = update(old); returns old.
template <typename T, typename Update>
__attribute__((no_sanitize_thread, noinline)) T Atomic(T* address, Update update) {
  BeforeAtomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace lukv::emulator

inline int atomicAdd(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value));
  });
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old + value; });
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return old + value; });
}
inline float atomicAdd(float* address, float value) {
  return lukv::emulator::Atomic(address, [value](float old) { return old + value; });
}
inline int atomicSub(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) {
    return static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value));
  });
}
inline unsigned atomicSub(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old - value; });
}
inline int atomicMax(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) { return old < value ? value : old; });
}
inline unsigned atomicMax(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old < value ? value : old; });
}
inline long long atomicMax(long long* address, long long value) {
  return lukv::emulator::Atomic(address, [value](long long old) { return old < value ? value : old; });
}
inline unsigned long long atomicMax(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return old < value ? value : old; });
}
inline int atomicMin(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) { return value < old ? value : old; });
}
inline unsigned atomicMin(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return value < old ? value : old; });
}
inline long long atomicMin(long long* address, long long value) {
  return lukv::emulator::Atomic(address, [value](long long old) { return value < old ? value : old; });
}
inline unsigned long long atomicMin(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return value < old ? value : old; });
}
inline int atomicExch(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int) { return value; });
}
inline unsigned atomicExch(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned) { return value; });
}
inline unsigned long long atomicExch(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long) { return value; });
}
inline float atomicExch(float* address, float value) {
  return lukv::emulator::Atomic(address, [value](float) { return value; });
}
inline int atomicAnd(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) { return old & value; });
}
inline unsigned atomicAnd(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old & value; });
}
inline unsigned long long atomicAnd(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return old & value; });
}
inline int atomicOr(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) { return old | value; });
}
inline unsigned atomicOr(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old | value; });
}
inline unsigned long long atomicOr(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return old | value; });
}
inline int atomicXor(int* address, int value) {
  return lukv::emulator::Atomic(address, [value](int old) { return old ^ value; });
}
inline unsigned atomicXor(unsigned* address, unsigned value) {
  return lukv::emulator::Atomic(address, [value](unsigned old) { return old ^ value; });
}
inline unsigned long long atomicXor(unsigned long long* address, unsigned long long value) {
  return lukv::emulator::Atomic(address, [value](unsigned long long old) { return old ^ value; });
}
inline int atomicCAS(int* address, int expected, int value) {
  return lukv::emulator::Atomic(address, [expected, value](int old) { return old == expected ? value : old; });
}
inline unsigned atomicCAS(unsigned* address, unsigned expected, unsigned value) {
  return lukv::emulator::Atomic(address, [expected, value](unsigned old) { return old == expected ? value : old; });
}
inline unsigned long long atomicCAS(unsigned long long* address, unsigned long long expected,
                                    unsigned long long value) {
  return lukv::emulator::Atomic(address,
                                [expected, value](unsigned long long old) { return old == expected ? value : old; });
}
