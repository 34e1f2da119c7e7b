#include "base/settings.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/version.h"

namespace lukv {
namespace {

std::string EnvironmentName(const std::string& flag) {
  return absl::StrCat("LUKV_", absl::AsciiStrToUpper(absl::StrReplaceAll(flag, {{"-", "_"}})));
}

void NameVariables(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& names = option->get_lnames();
    if (!names.empty() && option->get_configurable() && option->get_envname().empty()) {
      option->envname(EnvironmentName(names.front()));
    }
  }
  for (CLI::App* sub : app.get_subcommands({})) NameVariables(*sub);
}

}  // namespace

std::optional<ExitRequest> ParseSettings(CLI::App& app, int argc, const char* const* argv) {
  std::string config_file;
  app.set_version_flag("--version", absl::StrCat(app.get_name(), " ", kVersion))->configurable(false);
  app.add_option("--config", config_file, "Read settings from this TOML or INI file")
      ->envname("LUKV_CONFIG")
      ->configurable(false);
  app.allow_config_extras(CLI::config_extras_mode::error);
  NameVariables(app);
  try {
    app.parse(argc, argv);
    if (!config_file.empty()) {
      // CLI11's own order lets the file win over the environment. By now every option that the command line or the
      // environment gave has a value, and the file fills only those that have none.
      std::ifstream file(config_file);
      if (!file) return WrongSetting(app, absl::StrCat("--config: cannot read ", config_file));
      app.parse_from_stream(file);
    }
  } catch (const CLI::CallForHelp&) {
    return ExitRequest{0, app.help()};
  } catch (const CLI::CallForVersion&) {
    return ExitRequest{0, absl::StrCat(app.version(), "\n")};
  } catch (const CLI::Error& error) {
    return WrongSetting(app, error.what());
  }
  return std::nullopt;
}

ExitRequest WrongSetting(const CLI::App& app, const std::string& reason) {
  // CLI11 breaks some messages into lines.
  std::string line = absl::StrReplaceAll(reason, {{"\n", " "}});
  absl::StripTrailingAsciiWhitespace(&line);
  return ExitRequest{2, absl::StrCat(app.get_name(), ": ", line, " (see ", app.get_name(), " --help)\n")};
}

bool ParseSeconds(const std::string& text, absl::Duration* duration) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    *duration = absl::Seconds(seconds);
    return true;
  }
  return absl::ParseDuration(text, duration);
}

int Exit(const ExitRequest& request) {
  std::fputs(request.text.c_str(), request.code == 0 ? stdout : stderr);
  return request.code;
}

}  // namespace lukv
