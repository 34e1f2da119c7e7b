#include "kernels/emulator/report.h"

#include <cstdio>

namespace lukv::emulator {
namespace {

Report last_report;

std::string Describe(const Frame& frame) { return frame.file + ":" + std::to_string(frame.line); }

std::string Coordinates(uint3 at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

}  // namespace

std::string Report::Text() const {
  if (kernel.empty()) return what;
  std::string text = frames.empty() ? "unknown line" : Describe(frames.front());
  text += ": " + what + " [block " + Coordinates(block) + ", thread " + Coordinates(thread) + " of " + kernel;
  for (size_t i = 1; i < frames.size(); ++i) text += ", called from " + Describe(frames[i]);
  return text + "]";
}

void MakeReport(const Report& report) {
  last_report = report;
  std::fprintf(stderr, "lukv emulator: %s\n", report.Text().c_str());
}

const Report& LastReport() { return last_report; }
void ClearReport() { last_report = {}; }

std::string SiteOf(const void* return_address) {
  const std::vector<Frame> frames = FramesOfCall(return_address);
  return frames.empty() ? "" : " (" + Describe(frames.front()) + ")";
}

}  // namespace lukv::emulator
