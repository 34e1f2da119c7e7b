// What lukv-profile was asked to do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/settings.h"
#include "tools/profile/profiled_context.h"

namespace lukv {

struct ProfileCommand {
  std::string model;
  std::vector<std::string> contexts;   // Files; as many as questions.
  std::vector<std::string> questions;  // Files, in the order of the contexts.
  std::vector<ProfileScorer> scorers;  // Each once.
  std::string out;                     // Folder.
  std::string device = "auto";
  int threads = 0;
  int64_t kv_memory = int64_t{2} << 30;
  int32_t max_new = 64;
  float temperature = 0.7f;
  uint64_t seed = 1;
};

std::variant<ProfileCommand, ExitRequest> ParseProfileCommand(int argc, const char* const* argv);

// "snapkv" or "snapkv:queries=64,window=64": a scorer as a policy spells it.
absl::StatusOr<ProfileScorer> ParseProfileScorer(std::string_view text);

// The name of a scorer's files, without extension: its label, in letters that every file system takes. Different
// scorers have different ones.
std::string CurveFileName(const ProfileScorer& scorer);

}  // namespace lukv
