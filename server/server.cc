#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/acceptor.h"
#include "server/api_keys.h"
#include "server/gate.h"
#include "server/health.h"
#include "server/inference_service.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/tls.h"
#include "server/vllm_service.h"
#include "server/watchdog.h"

namespace lukv {
namespace {

// How long the transport may take to end calls that the engine has let go of.
constexpr absl::Duration kShutdownGrace = absl::Seconds(1);
// Pings that come too early before the connection is closed; a slow network may bunch a few.
constexpr int kMaxPingStrikes = 2;

// What gRPC takes for "never".
int Milliseconds(absl::Duration duration) {
  if (duration == absl::ZeroDuration()) return std::numeric_limits<int>::max();
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

void SetChannelArguments(grpc::ServerBuilder& builder, const ConnectionLimits& limits) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.max_message_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_streams);
  // A taken port is an error, not a port shared with somebody.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // gRPC's default, five minutes, answers gateways with GOAWAY.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(limits.min_ping_interval)));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kMaxPingStrikes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A client that vanished without a word is noticed and its pages come back.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, Milliseconds(limits.handshake_timeout));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, Milliseconds(limits.max_connection_idle));
  // No grace: calls on an old connection have all the time that they need.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(limits.max_connection_age));
}

absl::Status CannotListen(const std::string& address) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": it is taken or no address of this machine"));
}

// An address of gRPC's own: unix sockets, and the health service.
struct OwnListener {
  OwnListener(grpc::ServerBuilder& builder, const std::string& wanted,
              const std::shared_ptr<grpc::ServerCredentials>& credentials)
      : address(wanted) {
    builder.AddListeningPort(wanted, credentials, &port);
  }
  // REQUIRES: the server has been started.
  absl::StatusOr<std::string> Address() const {
    if (port <= 0) return CannotListen(address);
    return absl::StartsWith(address, "unix:") ? address
                                              : absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  }
  const std::string address;
  int port = 0;
};

}  // namespace

struct Server::Impl {
  Impl(const NetworkOptions& network, std::unique_ptr<ApiKeys> keys, const std::string& model_name)
      : options(network),
        gate(std::move(keys), network.keys_exempt_plaintext),
        metrics(model_name),
        service(&metrics, &gate),
        vllm(&service, &metrics),
        acceptor(network.limits.max_connections) {}

  absl::Status ListenForCalls();
  absl::Status ListenForProbes();
  // Of both: the address that was taken, by way of the acceptor if it is no unix socket.
  absl::Status AddListener(grpc::ServerBuilder& builder, const std::string& wanted,
                           const std::shared_ptr<grpc::ServerCredentials>& listener_credentials, std::string& taken,
                           std::vector<std::unique_ptr<OwnListener>>& own);

  const NetworkOptions options;
  std::string address;
  std::string plaintext_address;
  std::string health_address;
  std::string metrics_address;
  Gate gate;
  Metrics metrics;
  InferenceService service;
  VllmService vllm;
  std::shared_ptr<grpc::ServerCredentials> credentials;  // Of `address`.
  Acceptor acceptor;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<grpc::Server> health_server;
  Health health;
  std::unique_ptr<Watchdog> watchdog;  // Goes first.
};

absl::Status Server::Impl::AddListener(grpc::ServerBuilder& builder, const std::string& wanted,
                                       const std::shared_ptr<grpc::ServerCredentials>& listener_credentials,
                                       std::string& taken, std::vector<std::unique_ptr<OwnListener>>& own) {
  if (absl::StartsWith(wanted, "unix:")) {
    own.push_back(std::make_unique<OwnListener>(builder, wanted, listener_credentials));
    taken = wanted;
    return absl::OkStatus();
  }
  LUKV_ASSIGN_OR_RETURN(taken, acceptor.Listen(wanted, listener_credentials, builder));
  return absl::OkStatus();
}

absl::Status Server::Impl::ListenForCalls() {
  credentials = grpc::InsecureServerCredentials();
  if (options.tls.on()) {
    LUKV_ASSIGN_OR_RETURN(credentials, TlsCredentials(options.tls));
  }
  grpc::ServerBuilder builder;
  SetChannelArguments(builder, options.limits);
  std::vector<std::unique_ptr<OwnListener>> own;
  LUKV_RETURN_IF_ERROR(AddListener(builder, options.listen, credentials, address, own));
  if (!options.plaintext_listen.empty()) {
    LUKV_RETURN_IF_ERROR(
        AddListener(builder, options.plaintext_listen, grpc::InsecureServerCredentials(), plaintext_address, own));
  }
  builder.RegisterService(&service);
  builder.RegisterService(&vllm);
  server = builder.BuildAndStart();
  if (server == nullptr) return CannotListen(own.empty() ? options.listen : own[0]->address);
  for (const auto& listener : own) LUKV_RETURN_IF_ERROR(listener->Address().status());
  health.Add(*server);
  return acceptor.Start();
}

absl::Status Server::Impl::ListenForProbes() {
  if (options.health_listen.empty()) return absl::OkStatus();
  grpc::ServerBuilder builder;
  SetChannelArguments(builder, options.limits);
  const OwnListener listener(builder, options.health_listen, grpc::InsecureServerCredentials());
  health_server = builder.BuildAndStart();
  if (health_server == nullptr) return CannotListen(options.health_listen);
  health.Add(*health_server);
  LUKV_ASSIGN_OR_RETURN(health_address, listener.Address());
  return absl::OkStatus();
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const NetworkOptions& options, const std::string& model_name) {
  std::unique_ptr<ApiKeys> keys;
  if (!options.api_keys.empty()) {
    LUKV_ASSIGN_OR_RETURN(keys, ApiKeys::Load(options.api_keys));
  }
  auto impl = std::make_unique<Impl>(options, std::move(keys), model_name);
  if (!options.metrics_listen.empty()) {
    LUKV_ASSIGN_OR_RETURN(impl->metrics_address, impl->metrics.Listen(options.metrics_listen));
  }
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  LUKV_RETURN_IF_ERROR(impl->ListenForCalls());
  LUKV_RETURN_IF_ERROR(impl->ListenForProbes());
  impl->health.SetReady(false);
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  if (impl_ == nullptr) return;
  Drain(absl::ZeroDuration());
  impl_->watchdog.reset();
  impl_->acceptor.Stop();
  for (grpc::Server* server : {impl_->server.get(), impl_->health_server.get()}) {
    if (server == nullptr) continue;
    server->Shutdown(absl::ToChronoTime(absl::Now() + kShutdownGrace));
    server->Wait();
  }
}

const std::string& Server::address() const { return impl_->address; }
const std::string& Server::plaintext_address() const { return impl_->plaintext_address; }
const std::string& Server::health_address() const { return impl_->health_address; }
const std::string& Server::metrics_address() const { return impl_->metrics_address; }
int32_t Server::connections() const { return impl_->acceptor.connections(); }

void Server::Serve(ServedModel model) {
  if (impl_->options.watchdog > absl::ZeroDuration()) {
    impl_->watchdog = std::make_unique<Watchdog>(
        impl_->options.watchdog, [engine = model.engine.get()] { return engine->StepAge(); },
        [impl = impl_.get()](bool moving) {
          if (moving) {
            LogWarning("the engine moves again");
          } else {
            LogError(absl::StrCat("a step of the engine takes longer than ",
                                  absl::FormatDuration(impl->options.watchdog), " (--watchdog): it is stuck"));
          }
          impl->health.SetAlive(moving);
        });
  }
  impl_->service.Serve(std::move(model));
  impl_->health.SetReady(true);
}

void Server::Drain(absl::Duration timeout) {
  // The process lives on for a while: "" stays SERVING, so that nobody kills it for being unhealthy.
  impl_->health.SetReady(false);
  impl_->service.Close();
  impl_->vllm.Close();
  if (impl_->service.WaitUntilIdle(absl::Now() + timeout)) return;
  impl_->service.AbortAll();
  if (impl_->service.WaitUntilIdle(absl::Now() + kShutdownGrace)) return;
  // What is left writes to clients that do not read: the transport cuts them off.
  impl_->server->Shutdown(absl::ToChronoTime(absl::Now()));
  impl_->service.WaitUntilIdle(absl::InfiniteFuture());
}

}  // namespace lukv
