#include "kernels/emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace lukv::emulator {

FiberState* running_fiber = nullptr;

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif
// Spreads the tops over the 64 cache lines of a page in steps that keep 16-byte alignment.
constexpr size_t kColours = 64;
constexpr size_t kColourBytes = 64;

void Start(boost::context::detail::transfer_t from) {
  ArriveOnFiber(from);
  running_fiber->entry();
  std::abort();
}

}  // namespace

FiberStack::FiberStack(unsigned index) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  mapped_ = kStackBytes + page + kColours * kColourBytes;
  void* const memory =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
    std::perror("lukv emulator: no memory for a fiber's stack");
    std::abort();
  }
  memory_ = static_cast<uint8_t*>(memory);
  low_ = memory_ + page;
  top_ = memory_ + mapped_ - (index * 11 % kColours) * kColourBytes;
}

FiberStack::~FiberStack() {
#ifdef __SANITIZE_ADDRESS__
  // Whatever the system puts there next.
  ASAN_UNPOISON_MEMORY_REGION(memory_, mapped_);
#endif
  munmap(memory_, mapped_);
}

void PrepareFiber(FiberState& state, const FiberStack& stack, void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(stack.low(), stack.bytes());
#endif
  state = {.context = boost::context::detail::make_fcontext(stack.top(), stack.bytes(), &Start),
           .entry = entry,
           .stack_low = stack.low(),
           .stack_bytes = stack.bytes()};
}

}  // namespace lukv::emulator
