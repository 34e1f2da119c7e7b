#include "kernels/emulator/control.h"

#include <mutex>
#include <string>

#include "kernels/emulator/block.h"
#include "kernels/emulator/memory.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/runtime.h"

using lukv::emulator::DeviceMemory;
using lukv::emulator::PinnedMemory;
using lukv::emulator::Runtime;

extern "C" {

void lukv_emulator_fail_after(int calls) {
  const std::lock_guard lock(Runtime::Get().mutex());
  Runtime::Get().FailAfter(calls);
}

void lukv_emulator_narrow_algorithms(int narrow) {
  const std::lock_guard lock(Runtime::Get().mutex());
  Runtime::Get().NarrowAlgorithms(narrow != 0);
}

int64_t lukv_emulator_calls() {
  const std::lock_guard lock(Runtime::Get().mutex());
  return Runtime::Get().calls();
}

void lukv_emulator_set_seed(unsigned seed) {
  const std::lock_guard lock(Runtime::Get().mutex());
  lukv::emulator::SeedScheduler(seed);
  Runtime::Get().Seed(seed);
}

int64_t lukv_emulator_live_allocations() {
  const std::lock_guard lock(Runtime::Get().mutex());
  return DeviceMemory::Get().live_allocations() + PinnedMemory::Get().live_allocations() +
         Runtime::Get().live_objects();
}

const char* lukv_emulator_last_report() {
  const std::lock_guard lock(Runtime::Get().mutex());
  static std::string text;
  text = lukv::emulator::LastReport().what.empty() ? "" : lukv::emulator::LastReport().Text();
  return text.c_str();
}

void lukv_emulator_clear_error() {
  const std::lock_guard lock(Runtime::Get().mutex());
  Runtime::Get().ClearError();
}

void lukv_emulator_set_memory(size_t bytes) {
  const std::lock_guard lock(Runtime::Get().mutex());
  DeviceMemory::Get().set_total_bytes(bytes);
}

}  // extern "C"
