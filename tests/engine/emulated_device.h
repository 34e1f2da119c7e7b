// The controls of the emulated CUDA device that LUKV_CUDA_LIBRARY names (kernels/emulator/control.h).
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>

#include "base/check.h"

namespace lukv {

class EmulatedDevice {
 public:
  EmulatedDevice() : module_(dlopen(std::getenv("LUKV_CUDA_LIBRARY"), RTLD_NOW | RTLD_LOCAL)) {
    LUKV_CHECK(module_ != nullptr);
  }

  void FailAfter(int calls) { Find<void(int)>("lukv_emulator_fail_after")(calls); }
  int64_t Calls() { return Find<int64_t()>("lukv_emulator_calls")(); }
  int64_t LiveAllocations() { return Find<int64_t()>("lukv_emulator_live_allocations")(); }
  const char* LastReport() { return Find<const char*()>("lukv_emulator_last_report")(); }
  void NarrowAlgorithms(bool narrow) { Find<void(int)>("lukv_emulator_narrow_algorithms")(narrow ? 1 : 0); }
  void SetMemory(size_t bytes) { Find<void(size_t)>("lukv_emulator_set_memory")(bytes); }

 private:
  template <typename F>
  F* Find(const char* name) {
    void* const symbol = dlsym(module_, name);
    LUKV_CHECK(symbol != nullptr);
    return reinterpret_cast<F*>(symbol);
  }

  void* const module_;
};

}  // namespace lukv
