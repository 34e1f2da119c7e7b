// What lukv-bench is asked to do.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "base/settings.h"

namespace lukv {

struct BenchOptions {
  // One of the three is given.
  std::string model;
  std::string dummy_weights;  // A preset
  std::string roofline;       // A preset

  std::string device = "auto";
  int threads = 0;
  int32_t prompt = 512;
  int32_t gen = 64;
  int32_t batch = 1;
  int32_t repeat = 3;
  int32_t prefill_chunk = 512;
  int32_t page_tokens = 64;
  std::string kv_dtype = "bf16";
  std::string compute = "int8";
  std::string policy = "full";
  std::string curves;
  uint64_t seed = 1;
  bool ops = false;
  double peak_bandwidth = 3.0;  // TB/s, of the roofline
  double peak_flops = 800;      // TFLOP/s
  bool json = false;
  std::string trace;  // File; "": none.
};

std::variant<BenchOptions, ExitRequest> ParseBenchOptions(int argc, const char* const* argv);

}  // namespace lukv
