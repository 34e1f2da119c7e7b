#include "kernels/emulator/report.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace lukv::emulator {
namespace {

Report last_report;

std::string Coordinates(uint3 at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

}  // namespace

std::string KernelName(const void* function) {
  Dl_info info = {};
  if (dladdr(function, &info) == 0 || info.dli_sname == nullptr) {
    char address[32];
    std::snprintf(address, sizeof(address), "kernel at %p", function);
    return address;
  }
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 ? name.get() : info.dli_sname;
}

void MakeReport(const Finding& finding) {
  Report report = {.what = finding.what,
                   .kernel = KernelName(finding.function),
                   .block = finding.block,
                   .thread = finding.thread,
                   .memory = finding.memory};
  std::string where = "an unknown line";
  if (finding.site.has_value()) {
    report.file = finding.site->file_name();
    report.line = static_cast<int>(finding.site->line());
    where = report.file + ":" + std::to_string(report.line);
  }
  report.text = where + ": " + report.what + " [block " + Coordinates(report.block) + " thread " +
                Coordinates(report.thread) + " of " + report.kernel + "]";
  std::fprintf(stderr, "lukv emulator: %s\n", report.text.c_str());
  last_report = report;
}

Report LastReport() { return last_report; }
void ClearReport() { last_report = {}; }

}  // namespace lukv::emulator
