// The shared memory of the running block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lukv::emulator {

inline constexpr size_t kMaxStaticShared = 48 * 1024;
inline constexpr size_t kMaxDynamicShared = 227 * 1024;

// Before a launch, and before each of its blocks.
void PrepareSharedMemory();
void StartSharedMemory(size_t dynamic_bytes);
// Of the static arrays that the running launch has asked for so far.
size_t StaticSharedBytes();

// All threads met at the barrier; the lanes of `mask` met.
void OrderBlock();
void OrderWarp(unsigned warp, unsigned mask);

}  // namespace lukv::emulator
