// lukv-bench: how fast a model runs in this process, without a server, and where its time goes.
#include <cstdio>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "base/settings.h"
#include "tools/bench/bench.h"
#include "tools/bench/options.h"

int main(int argc, char** argv) {
  const std::variant<lukv::BenchOptions, lukv::ExitRequest> options = lukv::ParseBenchOptions(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&options)) return lukv::Exit(*exit);
  const absl::StatusOr<std::string> report = lukv::RunBench(std::get<lukv::BenchOptions>(options));
  if (!report.ok()) {
    std::fprintf(stderr, "lukv-bench: %s\n", std::string(report.status().message()).c_str());
    return 1;
  }
  std::fputs(report->c_str(), stdout);
  return 0;
}
