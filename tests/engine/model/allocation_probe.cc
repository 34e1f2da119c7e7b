#include "tests/engine/model/allocation_probe.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace lukv {
namespace {

std::atomic<size_t> total_bytes = 0;

}  // namespace

AllocationProbe::AllocationProbe() : start_(total_bytes) {}

size_t AllocationProbe::bytes() const { return total_bytes - start_; }

}  // namespace lukv

void* operator new(size_t size) {
  lukv::total_bytes += size;
  void* result = std::malloc(size == 0 ? 1 : size);
  if (result == nullptr) throw std::bad_alloc();
  return result;
}

void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, size_t) noexcept { std::free(pointer); }
