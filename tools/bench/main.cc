// lukv-bench: how fast a model runs in this process, without a server, and where its time goes; with --server, what a
// server does under load.
#include <cstdio>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "base/settings.h"
#include "tools/bench/bench.h"
#include "tools/bench/options.h"
#include "tools/load/options.h"
#include "tools/load/run.h"

namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "lukv-bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

int RunLoad(int argc, char** argv) {
  const std::variant<lukv::LoadOptions, lukv::ExitRequest> options = lukv::ParseLoadOptions(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&options)) return lukv::Exit(*exit);
  const absl::StatusOr<lukv::LoadOutcome> outcome = lukv::RunLoad(std::get<lukv::LoadOptions>(options));
  if (!outcome.ok()) return Fail(outcome.status());
  std::fputs(outcome->text.c_str(), stdout);
  return outcome->findings ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (lukv::WantsLoad(argc, argv)) return RunLoad(argc, argv);
  const std::variant<lukv::BenchOptions, lukv::ExitRequest> options = lukv::ParseBenchOptions(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&options)) return lukv::Exit(*exit);
  const absl::StatusOr<std::string> report = lukv::RunBench(std::get<lukv::BenchOptions>(options));
  if (!report.ok()) return Fail(report.status());
  std::fputs(report->c_str(), stdout);
  return 0;
}
