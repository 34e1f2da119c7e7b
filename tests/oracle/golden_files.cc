#include "tests/oracle/golden_files.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace lukv {
namespace {

template <typename T>
std::vector<T> ReadArray(const std::string& name) {
  const std::string bytes = ReadFile(GoldenPath(name));
  LUKV_CHECK(bytes.size() % sizeof(T) == 0);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

std::string GoldenPath(const std::string& name) { return std::string(LUKV_TEST_DATA) + "/golden/" + name; }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) {
    std::cerr << "cannot read " << path << "\n";
    std::abort();
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

nlohmann::json ReadGoldenJson(const std::string& name) { return nlohmann::json::parse(ReadFile(GoldenPath(name))); }

std::vector<float> ReadGoldenF32(const std::string& name) { return ReadArray<float>(name); }

std::vector<int32_t> ReadGoldenI32(const std::string& name) { return ReadArray<int32_t>(name); }

std::string DemoModelPath() {
  const char* folder = std::getenv("LUKV_MODEL_DIR");
  const char* home = std::getenv("HOME");
  const std::string base = folder != nullptr ? folder : std::string(home != nullptr ? home : "") + "/.cache/lukv";
  return base + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace lukv
