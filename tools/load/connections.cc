#include "tools/load/connections.h"

#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/create_channel_posix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

absl::StatusOr<int> ConnectTo(int family, const sockaddr* address, socklen_t size, const std::string& name) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, address, size) != 0) {
    if (fd >= 0) close(fd);
    return absl::UnavailableError(absl::StrCat(name, ": ", std::strerror(errno)));
  }
  if (family != AF_UNIX) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);  // As gRPC wants it.
  return fd;
}

absl::StatusOr<int> OpenSocket(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) {
    sockaddr_un target = {};
    target.sun_family = AF_UNIX;
    const std::string path = address.substr(5);
    if (path.size() >= sizeof(target.sun_path)) return absl::UnavailableError(absl::StrCat(address, ": too long"));
    std::memcpy(target.sun_path, path.data(), path.size());
    return ConnectTo(AF_UNIX, reinterpret_cast<const sockaddr*>(&target), sizeof(target), address);
  }
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return absl::UnavailableError(absl::StrCat(address, ": no host:port"));
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat(address, ": ", gai_strerror(error)));
  }
  absl::StatusOr<int> fd = ConnectTo(found->ai_family, found->ai_addr, found->ai_addrlen, address);
  freeaddrinfo(found);
  return fd;
}

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  // Channels to one address share a connection otherwise.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // The library's own retries would send what the books do not know of.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return arguments;
}

// gRPC 1.51 ends its threads for callbacks with the last channel or server that uses them; where the next one comes at
// that very moment it frees their queue twice. A channel that made one call and is never closed keeps them.
void KeepCallbackThreads() {
  // Volatile: otherwise nobody reads it, nothing is stored, and the channel looks leaked.
  static v1::Inference::Stub* volatile const kept = [] {
    v1::Inference::Stub* stub =
        v1::Inference::NewStub(grpc::CreateChannel("unix:/nowhere", grpc::InsecureChannelCredentials())).release();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now());
    const v1::GetModelRequest request;
    v1::GetModelResponse response;
    // The callback may still let go of the mutex when this one goes on.
    static Mutex mutex;
    static bool done = false;
    stub->async()->GetModel(&context, &request, &response, [](const grpc::Status&) {
      MutexLock lock(&mutex);
      done = true;
    });
    MutexLock lock(&mutex);
    mutex.Await([] { return done; });
    return stub;
  }();
  static_cast<void>(kept);
}

}  // namespace

Connection::Connection(const Target& target, bool small_window) : key_(target.key) {
  grpc::ChannelArguments arguments = Arguments();
  if (small_window) {
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 256);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  }
  stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(target.address, target.credentials, arguments));
}

Connection::Connection(const Target& target, int socket)
    : key_(target.key),
      socket_(fcntl(socket, F_DUPFD_CLOEXEC, 0)),
      stub_(v1::Inference::NewStub(grpc::CreateCustomInsecureChannelFromFd(target.address, socket, Arguments()))) {}

Connection::~Connection() {
  if (socket_ >= 0) close(socket_);
}

void Connection::Cut() {
  cut_ = true;
  shutdown(socket_, SHUT_RDWR);
}

absl::StatusOr<std::unique_ptr<Connections>> Connections::Open(const ConnectionOptions& options, int32_t n,
                                                               bool mortal) {
  KeepCallbackThreads();
  std::unique_ptr<Connections> connections(new Connections());
  connections->target_.address = options.server;
  LUKV_ASSIGN_OR_RETURN(connections->target_.credentials, Credentials(options));
  LUKV_ASSIGN_OR_RETURN(connections->target_.key, ReadKey(options));
  connections->mortal_ = mortal;
  for (int32_t i = 0; i < n; ++i) {
    LUKV_ASSIGN_OR_RETURN(std::shared_ptr<Connection> connection, connections->New());
    connections->all_.push_back(std::move(connection));
  }
  connections->slow_ = std::make_shared<Connection>(connections->target_, /*small_window=*/true);
  return connections;
}

absl::StatusOr<std::shared_ptr<Connection>> Connections::New() const {
  if (!mortal_) return std::make_shared<Connection>(target_, /*small_window=*/false);
  LUKV_ASSIGN_OR_RETURN(const int socket, OpenSocket(target_.address));
  return std::make_shared<Connection>(target_, socket);
}

absl::Status Connections::Kill() {
  std::shared_ptr<Connection>& next = all_[static_cast<size_t>(killed_) % all_.size()];
  next->Cut();
  ++killed_;
  LUKV_ASSIGN_OR_RETURN(next, New());
  return absl::OkStatus();
}

}  // namespace lukv
