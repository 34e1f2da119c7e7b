#include "server/acceptor.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log.h"

namespace lukv {
namespace {

constexpr int kBacklog = 1024;
// Out of descriptors or memory: the connection stays in the backlog, and asking again at once would only heat.
constexpr absl::Duration kExhaustedPause = absl::Milliseconds(20);

// errno is set if it is -1. A taken port is an error, not a port shared with somebody.
int ListenOn(const addrinfo& address, int port) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  // Ports whose connections of an earlier server have not quite timed out can be had.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage storage{};
  std::memcpy(&storage, address.ai_addr, address.ai_addrlen);
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));  // [::] is IPv4, too.
    reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(static_cast<uint16_t>(port));
  }
  if (bind(fd, reinterpret_cast<sockaddr*>(&storage), address.ai_addrlen) == 0 && listen(fd, kBacklog) == 0) return fd;
  const int reason = errno;
  close(fd);
  errno = reason;
  return -1;
}

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

bool Watch(int epoll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Acceptor::~Acceptor() {
  Stop();
  for (const int connection : open_) close(connection);
  for (const int fd : {epoll_, stop_}) {
    if (fd >= 0) close(fd);
  }
}

absl::StatusOr<std::string> Acceptor::Listen(const std::string& address,
                                             std::shared_ptr<grpc::ServerCredentials> credentials,
                                             grpc::ServerBuilder& builder) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const std::string port_text = address.substr(colon + 1);
  const addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port_text.c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", gai_strerror(error)));
  }
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  targets_.push_back(builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, std::move(credentials)));
  // A name may stand for several addresses ("localhost"); the first that can be had gives them all their port.
  int port = std::stoi(port_text);
  bool any = false;
  int reason = 0;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int fd = ListenOn(*info, port);
    if (fd < 0) {
      reason = errno;
      continue;
    }
    any = true;
    port = PortOf(fd);
    listeners_.push_back({.fd = fd, .target = targets_.back().get()});
  }
  if (!any) return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", std::strerror(reason)));
  return absl::StrCat(address.substr(0, colon), ":", port);
}

absl::Status Acceptor::Start() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  stop_ = eventfd(0, EFD_CLOEXEC);
  bool ok = epoll_ >= 0 && stop_ >= 0 && Watch(epoll_, stop_, EPOLLIN);
  for (const Listener& listener : listeners_) ok = ok && Watch(epoll_, listener.fd, EPOLLIN);
  if (!ok) return absl::ErrnoToStatus(errno, "cannot wait for connections");
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void Acceptor::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    if (write(stop_, &one, sizeof(one)) != sizeof(one)) LogError("cannot wake the thread that accepts connections");
    thread_.join();
  }
  for (const Listener& listener : listeners_) close(listener.fd);
  listeners_.clear();
}

void Acceptor::Run() {
  while (true) {
    epoll_event events[64];
    const int n = epoll_wait(epoll_, events, std::size(events), -1);
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == stop_) return;
      const auto listener =
          std::find_if(listeners_.begin(), listeners_.end(), [fd](const Listener& one) { return one.fd == fd; });
      if (listener != listeners_.end()) {
        Accept(*listener);
      } else {
        Forget(fd);
      }
    }
  }
}

void Acceptor::Accept(const Listener& listener) {
  const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) absl::SleepFor(kExhaustedPause);
    return;
  }
  if (connections_ >= max_connections_) {
    LogDebug(absl::StrCat("closed a connection: there are ", max_connections_, " already (--max-connections)"));
    close(fd);
    return;
  }
  // gRPC does not say when it is done with a connection, but shuts the socket down before it closes it, and that shows
  // on every descriptor of the socket.
  const int second = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (second < 0 || !Watch(epoll_, second, EPOLLRDHUP)) {
    if (second >= 0) close(second);
    close(fd);
    return;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  open_.insert(second);
  ++connections_;
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = listener.fd;
  parameters.fd = fd;
  listener.target->HandleNewConnection(&parameters);
}

void Acceptor::Forget(int connection) {
  open_.erase(connection);
  // Closing it would not end the watching while gRPC has the socket open, and its number may soon be another's.
  epoll_ctl(epoll_, EPOLL_CTL_DEL, connection, nullptr);
  close(connection);
  --connections_;
}

}  // namespace lukv
