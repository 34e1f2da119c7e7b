// What a kernel, or a caller of the runtime, did wrong: in one line for people and in parts for tests.
#pragma once

#include <vector_types.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/emulator/site.h"
#include "kernels/emulator/symbols.h"

namespace lukv::emulator {

struct Report {
  std::string what;
  std::string kernel;  // Demangled.
  uint3 block = {};
  uint3 thread = {};
  std::vector<Frame> frames;  // The line, and those that called it up to the kernel's own.
  bool memory = false;        // An access to memory: cudaErrorIllegalAddress.

  std::string Text() const;  // One line with all of it.
};

// Prints the report to stderr and keeps it as the last one.
void MakeReport(const Report& report);
// Empty `what` if there was none since ClearReport.
const Report& LastReport();
void ClearReport();

// " (file:line)", or nothing where the line is not known.
std::string SiteOf(const void* return_address);

}  // namespace lukv::emulator
