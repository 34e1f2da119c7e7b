// From addresses to names and lines, by the program's debug information.
#pragma once

#include <string>
#include <vector>

namespace lukv::emulator {

struct Frame {
  std::string file;  // From the repository's root; empty where there is no debug information.
  int line = 0;
};

// The line of a call, and the calls of inlined functions around it, the innermost first.
std::vector<Frame> FramesOfCall(const void* return_address);
// The running thread's calls, from where the kernel called the emulator up to the kernel itself.
std::vector<Frame> FramesOfKernel();

// "void lukv::cuda::RmsNormKernel<float>(lukv::RmsNormArgs)"; the address where no name is known.
std::string KernelName(const void* function);
// The same as the linker knows it; empty where no name is known.
std::string KernelSymbol(const void* function);

std::string ShortPath(const std::string& path);

}  // namespace lukv::emulator
