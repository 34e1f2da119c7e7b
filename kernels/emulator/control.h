// For tests of code that uses the device: what it did, and how to make it fail. Exported by the module, so that a
// program that opened it finds them by dlsym.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// The `calls`-th call from now that can fail does: cudaErrorMemoryAllocation from allocations, else cudaErrorUnknown
// (CUBLAS_STATUS_INTERNAL_ERROR from cuBLASLt). Zero or less: none does. Calls that give something back (free, destroy)
// and those that tell the last error are not counted and do not fail.
void lukv_emulator_fail_after(int calls);
// How many such calls there were.
int64_t lukv_emulator_calls();
// Of the order in which threads, blocks and streams go on. LUKV_EMULATOR_SEED sets it from outside; 1 by default.
void lukv_emulator_set_seed(unsigned seed);
// Of device and pinned memory, streams, events, graphs and what cuBLASLt gave out.
int64_t lukv_emulator_live_allocations();
// The last report about a kernel, one line; empty if there was none. Holds until the next one.
const char* lukv_emulator_last_report();
// As a new process: forgets errors, reports, queued work and captures. Memory stays.
void lukv_emulator_clear_error();
// Whether an algorithm of cuBLASLt is refused for other numbers of columns than it was chosen for. (The library may.)
void lukv_emulator_narrow_algorithms(int narrow);
// What the device has in all.
void lukv_emulator_set_memory(size_t bytes);

}  // extern "C"
