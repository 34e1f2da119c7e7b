// Fibers: stacks that take turns on one thread of the operating system.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace lukv::emulator {

// A stack with a guard page below it. Tops of neighbours lie at different offsets within a page, so that the hot ends
// of many stacks do not fall into the same few cache sets.
class FiberStack {
 public:
  explicit FiberStack(unsigned index);
  ~FiberStack();
  FiberStack(const FiberStack&) = delete;
  FiberStack& operator=(const FiberStack&) = delete;

  uint8_t* low() const { return low_; }
  uint8_t* top() const { return top_; }
  size_t bytes() const { return static_cast<size_t>(top_ - low_); }

 private:
  uint8_t* memory_ = nullptr;
  size_t mapped_ = 0;
  uint8_t* low_ = nullptr;
  uint8_t* top_ = nullptr;
};

// What is left of a fiber, or of the thread that runs fibers, while another one runs.
struct FiberState {
  void* context = nullptr;
  void (*entry)() = nullptr;
  // For AddressSanitizer, which must be told about every change of stacks.
  const void* stack_low = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// Prepares `state` to call `entry`, which must not return, on `stack` when it is first switched to. A fiber that was
// left in the middle of something may be prepared anew: it forgets.
void PrepareFiber(FiberState& state, const FiberStack& stack, void (*entry)());

// Whom the processor works for: set before every switch, so that a new fiber finds itself.
extern FiberState* running_fiber __attribute__((visibility("hidden")));

// On the stack of the running fiber: tells who was left, and where it goes on.
inline void ArriveOnFiber(boost::context::detail::transfer_t from) {
  FiberState& left = *static_cast<FiberState*>(from.data);
  left.context = from.fctx;
#ifdef __SANITIZE_ADDRESS__
  // The thread's own stack becomes known here, when its first fiber starts.
  __sanitizer_finish_switch_fiber(running_fiber->fake_stack, &left.stack_low, &left.stack_bytes);
#endif
}

// Leaves `self` and goes on where `next` left off. Returns when somebody switches to `self`.
inline void SwitchFiber(FiberState& self, FiberState& next) {
  running_fiber = &next;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&self.fake_stack, next.stack_low, next.stack_bytes);
#endif
  ArriveOnFiber(boost::context::detail::jump_fcontext(next.context, &self));
}

}  // namespace lukv::emulator
