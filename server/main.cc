// lukv-server: reads its settings, listens, loads the model, serves until a signal, drains.
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/version.h"
#include "server/config.h"
#include "server/load_model.h"
#include "server/log.h"
#include "server/ready_file.h"
#include "server/server.h"
#include "server/stop_signals.h"

namespace lukv {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "lukv-server: %s\n", std::string(status.message()).c_str());
  return 1;
}

std::string Addresses(const NetworkOptions& options, const Server& server) {
  std::string text = absl::StrCat("listening on ", server.address());
  if (options.tls.on()) absl::StrAppend(&text, options.tls.client_ca.empty() ? " (TLS)" : " (mutual TLS)");
  if (!server.plaintext_address().empty()) absl::StrAppend(&text, ", ", server.plaintext_address(), " (plaintext)");
  if (!options.api_keys.empty()) {
    absl::StrAppend(&text, options.keys_exempt_plaintext ? " for who has a key or no TLS" : " for who has a key");
  }
  if (!server.health_address().empty()) absl::StrAppend(&text, ", health on ", server.health_address());
  if (!server.metrics_address().empty()) {
    absl::StrAppend(&text, ", metrics on http://", server.metrics_address(), "/metrics");
  }
  return text;
}

int Run(const ServerConfig& config) {
  InitLog(config.log_level, config.log_format);
  StopSignals signals;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Listen(config.network, config.model.name);
  if (!server.ok()) return Fail(server.status());
  // At debug: a model that cannot be served is to give one line, the reason.
  LogDebug(absl::StrCat("listening on ", (*server)->address(), "; loading ", config.model.path));
  const absl::Time start = absl::Now();
  absl::StatusOr<ServedModel> model = LoadServedModel(config);
  if (!model.ok()) return Fail(model.status());
  const ModelInfo info = model->engine->info();
  const EngineStats stats = model->engine->Stats();
  const std::string policy = PolicyName(model->default_policy);
  (*server)->Serve(*std::move(model));
  LogInfo(absl::StrCat("memory on ", info.device, "\n", MemoryTable(info.memory)));
  LogInfo(absl::StrCat("lukv-server ", kVersion, " serves ", config.model.name, " (", info.config.architecture, ", ",
                       info.config.n_layers, " layers, ", info.weight_bytes >> 20, " MiB, loaded in ",
                       absl::FormatDuration(absl::Trunc(absl::Now() - start, absl::Milliseconds(1))), ") on ",
                       info.device, "; context ", info.max_context, " tokens, KV cache ", stats.pages_total,
                       " pages of ", stats.page_bytes, " bytes; eviction ", policy));
  LogInfo(Addresses(config.network, **server));
  if (!config.network.ready_file.empty()) {
    const absl::Status written = WriteReadyFile(config.network.ready_file, **server);
    if (!written.ok()) return Fail(written);
  }
  signals.Wait();
  LogInfo(absl::StrCat("shutting down; running requests have ", absl::FormatDuration(config.network.drain_timeout)));
  (*server)->Drain(config.network.drain_timeout);
  server->reset();
  LogInfo("bye");
  return 0;
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  const auto parsed = lukv::ParseServerConfig(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&parsed)) {
    return lukv::Exit(*exit);
  }
  return lukv::Run(std::get<lukv::ServerConfig>(parsed));
}
