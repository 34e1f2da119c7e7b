// Access to the committed golden files (tests/golden) and to the demo model. A missing file ends the test program:
// there is nothing sensible to compare with.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lukv {

// Path of a file under tests/golden.
std::string GoldenPath(const std::string& name);

std::string ReadFile(const std::string& path);
nlohmann::json ReadGoldenJson(const std::string& name);
std::vector<float> ReadGoldenF32(const std::string& name);    // Raw little-endian values.
std::vector<int32_t> ReadGoldenI32(const std::string& name);  // Raw little-endian values.

// $LUKV_MODEL_DIR or ~/.cache/lukv.
std::string DemoModelPath();

}  // namespace lukv
