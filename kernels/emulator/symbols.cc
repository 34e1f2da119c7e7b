#include "kernels/emulator/symbols.h"

#include <backtrace.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace lukv::emulator {
namespace {

// Without debug information there are no lines: no reason to fail.
void IgnoreError(void* /*data*/, const char* /*message*/, int /*number*/) {}

backtrace_state* State() {
  static backtrace_state* const state = backtrace_create_state(nullptr, /*threaded=*/0, &IgnoreError, nullptr);
  return state;
}

int AddFrame(void* frames, uintptr_t /*pc*/, const char* file, int line, const char* /*function*/) {
  static_cast<std::vector<Frame>*>(frames)->push_back({.file = file == nullptr ? "" : ShortPath(file), .line = line});
  return 0;
}

}  // namespace

std::string ShortPath(const std::string& path) {
  std::string text = std::filesystem::path(path).lexically_normal().string();
  const std::string root = LUKV_SOURCE_DIR "/";
  if (text.starts_with(root)) text.erase(0, root.size());
  while (text.starts_with("../")) text.erase(0, 3);
  return text;
}

std::vector<Frame> FramesOfCall(const void* return_address) {
  std::vector<Frame> frames;
  if (return_address == nullptr) return frames;
  backtrace_pcinfo(State(), reinterpret_cast<uintptr_t>(return_address) - 1, &AddFrame, &IgnoreError, &frames);
  std::erase_if(frames,
                [](const Frame& frame) { return frame.file.empty() || frame.file.starts_with("kernels/emulator/"); });
  return frames;
}

std::vector<Frame> FramesOfKernel() {
  std::vector<Frame> all;
  backtrace_full(State(), /*skip=*/1, &AddFrame, &IgnoreError, &all);
  std::vector<Frame> frames;
  for (const Frame& frame : all) {
    if (frame.file.empty() || (frames.empty() && frame.file.starts_with("kernels/emulator/"))) continue;
    // The launch calls the kernel by way of the standard library.
    if (frame.file.starts_with("/usr/") || frame.file.ends_with("/launch.h")) break;
    if (!frame.file.starts_with("kernels/emulator/")) frames.push_back(frame);
  }
  return frames;
}

std::string KernelSymbol(const void* function) {
  Dl_info info = {};
  return dladdr(function, &info) == 0 || info.dli_sname == nullptr ? "" : info.dli_sname;
}

std::string KernelName(const void* function) {
  const std::string symbol = KernelSymbol(function);
  if (symbol.empty()) {
    char address[32];
    std::snprintf(address, sizeof(address), "kernel at %p", function);
    return address;
  }
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 ? name.get() : symbol;
}

}  // namespace lukv::emulator
