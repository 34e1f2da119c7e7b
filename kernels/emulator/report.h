// What a kernel did wrong, in one line for people and in parts for tests.
#pragma once

#include <vector_types.h>

#include <optional>
#include <string>

#include "kernels/emulator/site.h"

namespace lukv::emulator {

struct Finding {
  std::string what;
  const void* function = nullptr;  // The kernel.
  uint3 block = {};
  uint3 thread = {};
  std::optional<Site> site;              // Of the call, where the kernel made one.
  const void* return_address = nullptr;  // In the kernel's code.
  bool memory = false;                   // An access to memory: cudaErrorIllegalAddress.
};

struct Report {
  std::string text;  // One line with all of it.
  std::string what;
  std::string kernel;  // Demangled.
  uint3 block = {};
  uint3 thread = {};
  std::string file;  // Empty where it is not known.
  int line = 0;
  bool memory = false;
};

// Completes the report, prints it to stderr and keeps it as the last one.
void MakeReport(const Finding& finding);
// Empty text if there was none since ClearReport.
Report LastReport();
void ClearReport();

// "void lukv::cuda::RmsNormKernel<float>(lukv::RmsNormArgs)"; the address where no name is known.
std::string KernelName(const void* function);

}  // namespace lukv::emulator
