// The rules by which every program of lukv takes its settings, on top of CLI11.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"

namespace CLI {
class App;
}

namespace lukv {

// The program ends here: after --help or --version (exit code 0, text for stdout), or because a setting is wrong (2,
// one line for stderr).
struct ExitRequest {
  int code = 0;
  std::string text;
};

// Parses with what the app's options describe, plus --version and --config. A setting comes from the command line, else
// from its variable (--kv-memory is LUKV_KV_MEMORY), else from the file given by --config or LUKV_CONFIG (TOML or INI:
// `kv-memory = "2GiB"`), else from its default. Empty variables count as not set.
std::optional<ExitRequest> ParseSettings(CLI::App& app, int argc, const char* const* argv);

// For what an app checks itself: exit code 2 and one line on stderr.
ExitRequest WrongSetting(const CLI::App& app, const std::string& reason);

// "30s", "1m30s", "500ms"; a bare number is seconds.
bool ParseSeconds(const std::string& text, absl::Duration* duration);

// Prints the text where it belongs; the exit code.
int Exit(const ExitRequest& request);

}  // namespace lukv
