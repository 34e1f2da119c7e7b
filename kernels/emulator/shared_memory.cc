#include "kernels/emulator/shared_memory.h"

#include <cstdlib>
#include <cstring>

#include "kernels/emulator/block.h"
#include "kernels/emulator/device.h"

namespace lukv::emulator {
namespace {

constexpr int kPoison = 0xff;
constexpr size_t kAlignment = 16;

alignas(128) uint8_t static_memory[kMaxStaticShared];
alignas(128) uint8_t dynamic_memory[kMaxDynamicShared];
size_t static_bytes = 0;

}  // namespace

void PrepareSharedMemory() { static_bytes = 0; }

void StartSharedMemory(size_t dynamic_bytes) {
  std::memset(static_memory, kPoison, static_bytes);
  std::memset(dynamic_memory, kPoison, dynamic_bytes);
}

size_t StaticSharedBytes() { return static_bytes; }
void OrderBlock() {}
void OrderWarp(unsigned /*warp*/, unsigned /*mask*/) {}

void* SharedVariable::Address(Site site) {
  if (launch_ != LaunchNumber()) {
    launch_ = LaunchNumber();
    address_ = static_memory + static_bytes;
    const size_t bytes = (bytes_ + kAlignment - 1) / kAlignment * kAlignment;
    if (static_bytes + bytes > kMaxStaticShared) {
      FailThread("more than 48 KiB of static shared memory", site, __builtin_return_address(0));
    }
    std::memset(address_, kPoison, bytes);
    static_bytes += bytes;
  }
  return address_;
}

void* DynamicShared() { return dynamic_memory; }

}  // namespace lukv::emulator
