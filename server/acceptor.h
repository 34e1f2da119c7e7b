// Accepts connections for gRPC, which has no limit of its own for their number.
#pragma once

#include <grpcpp/server_builder.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lukv {

class Acceptor {
 public:
  // Over all its addresses; a connection beyond that is closed before a byte of it is read.
  explicit Acceptor(int32_t max_connections) : max_connections_(max_connections) {}
  // REQUIRES: the server that was built is gone or takes no more connections.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // host:port; the address with the port that was taken. The server that `builder` makes gets the connections.
  // UNAVAILABLE: the address cannot be used, and why. REQUIRES: not started.
  absl::StatusOr<std::string> Listen(const std::string& address, std::shared_ptr<grpc::ServerCredentials> credentials,
                                     grpc::ServerBuilder& builder);

  // Once the server runs, and once.
  absl::Status Start();
  // Nobody is accepted any more; who is connected stays. Idempotent.
  void Stop();

  int32_t connections() const { return static_cast<int32_t>(connections_); }

 private:
  struct Listener {
    int fd = -1;
    grpc::experimental::ExternalConnectionAcceptor* target = nullptr;
  };

  void Run();
  void Accept(const Listener& listener);
  void Forget(int connection);

  const int32_t max_connections_;
  std::vector<Listener> listeners_;
  std::vector<std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor>> targets_;
  int stop_ = -1;  // eventfd
  int epoll_ = -1;
  std::unordered_set<int> open_;  // Of the thread: second descriptors of the connections that gRPC has.
  std::atomic<int32_t> connections_ = 0;
  std::thread thread_;
};

}  // namespace lukv
