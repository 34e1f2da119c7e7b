#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/inference_service.h"
#include "server/metrics.h"
#include "server/vllm_service.h"

namespace lukv {
namespace {

// Ready together.
constexpr const char* kServiceNames[] = {"lukv.v1.Inference", "vllm.grpc.engine.VllmEngine"};
// How long the transport may take to end calls that the engine has let go of.
constexpr absl::Duration kShutdownGrace = absl::Seconds(1);

void SetChannelArguments(grpc::ServerBuilder& builder, const NetworkOptions& options) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  // A taken port is an error, not a port shared with somebody.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Gateways ping idle connections every 30 s; gRPC's default answers that with GOAWAY.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A client that vanished without a word is noticed and its pages come back.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
}

}  // namespace

struct Server::Impl {
  explicit Impl(const std::string& model_name) : metrics(model_name), service(&metrics), vllm(&service, &metrics) {}

  void SetReady(bool ready) {
    for (const char* name : kServiceNames) server->GetHealthCheckService()->SetServingStatus(name, ready);
  }

  std::string address;
  std::string metrics_address;
  Metrics metrics;
  InferenceService service;
  VllmService vllm;
  std::unique_ptr<grpc::Server> server;  // Goes first.
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const NetworkOptions& options, const std::string& model_name) {
  auto impl = std::make_unique<Impl>(model_name);
  if (!options.metrics_listen.empty()) {
    LUKV_ASSIGN_OR_RETURN(impl->metrics_address, impl->metrics.Listen(options.metrics_listen));
  }
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetChannelArguments(builder, options);
  int port = 0;
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&impl->service);
  builder.RegisterService(&impl->vllm);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen, ": it is taken or no address of this machine"));
  }
  impl->SetReady(false);
  impl->address = absl::StartsWith(options.listen, "unix:")
                      ? options.listen
                      : absl::StrCat(options.listen.substr(0, options.listen.rfind(':')), ":", port);
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  if (impl_ == nullptr) return;
  Drain(absl::ZeroDuration());
  impl_->server->Shutdown(absl::ToChronoTime(absl::Now() + kShutdownGrace));
  impl_->server->Wait();
}

const std::string& Server::address() const { return impl_->address; }
const std::string& Server::metrics_address() const { return impl_->metrics_address; }

void Server::Serve(ServedModel model) {
  impl_->service.Serve(std::move(model));
  impl_->SetReady(true);
}

void Server::Drain(absl::Duration timeout) {
  // The process lives on for a while: "" stays SERVING, so that nobody kills it for being unhealthy.
  impl_->SetReady(false);
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
