#include "tools/load/run.h"

#include <grpc/support/log.h>

#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/signal_thread.h"
#include "base/status_macros.h"
#include "tools/load/books.h"
#include "tools/load/generator.h"
#include "tools/load/plot.h"
#include "tools/load/report.h"
#include "tools/load/scraper.h"
#include "tools/load/summary.h"

namespace lukv {
namespace {

absl::StatusOr<v1::GetModelResponse> AskForModel(Connections& connections) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  connections.For(0)->Prepare(context);
  v1::GetModelResponse model;
  const grpc::Status status = connections.For(0)->stub().GetModel(&context, {}, &model);
  if (!status.ok()) return absl::UnavailableError(status.error_message());
  return model;
}

}  // namespace

absl::StatusOr<LoadOutcome> RunLoad(const LoadOptions& options) {
  gpr_set_log_function([](gpr_log_func_args*) {});  // Statuses say it all.
  std::atomic<Generator*> running = nullptr;
  SignalThread interruption([&](int) {
    if (Generator* generator = running.load()) generator->Stop();
  });
  const bool mortal = options.kill_every > absl::ZeroDuration();
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<Connections> connections,
                        Connections::Open(options.connection, options.connections, mortal));
  LUKV_ASSIGN_OR_RETURN(const v1::GetModelResponse model, AskForModel(*connections));
  RequestPlanner planner(options, model.vocabulary_size(), model.max_context());
  Generator generator(options, std::move(planner), std::move(connections));
  std::optional<Scraper> scraper;
  if (!options.metrics.empty()) {
    scraper.emplace(options.metrics);
    LUKV_RETURN_IF_ERROR(scraper->Start(generator.clock()));
  }
  running = &generator;
  absl::StatusOr<LoadRun> ran = generator.Run();
  running = nullptr;
  LUKV_RETURN_IF_ERROR(ran.status());
  const LoadRun run = *std::move(ran);
  std::vector<TimedReading> readings;
  std::vector<BookLine> books = {CheckEndings(run)};
  if (scraper.has_value()) {
    LUKV_ASSIGN_OR_RETURN(readings, scraper->Finish());
    books = CheckBooks(run, readings.front().reading, readings.back().reading);
  }
  const LoadSummary summary = Summarise(options, run, readings);
  if (!options.json.empty()) {
    LUKV_RETURN_IF_ERROR(WriteWholeFile(options.json, LoadJson(options, summary, books, run, readings)));
  }
  if (!options.plot.empty()) LUKV_RETURN_IF_ERROR(WriteWholeFile(options.plot, LoadSvg(run, readings)));
  return LoadOutcome{.text = LoadText(options, summary, books), .findings = !Findings(summary, books).empty()};
}

}  // namespace lukv
