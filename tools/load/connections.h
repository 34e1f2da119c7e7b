// The connections that requests go over.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lukv/v1/inference.grpc.pb.h"
#include "tools/client/connection.h"

namespace lukv {

// Who is spoken to, and how.
struct Target {
  std::string address;
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::string key;  // "": none.
};

// One TCP connection. It lives as long as a call uses it.
class Connection {
 public:
  // Made by gRPC when it is needed, and again when it is lost. `small_window`: the server may send only a few hundred
  // bytes ahead of the reader of a stream, so that a slow reader is one at once.
  Connection(const Target& target, bool small_window);
  // Over this socket, which can be cut; gRPC closes it.
  Connection(const Target& target, int socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  v1::Inference::Stub& stub() { return *stub_; }
  // Every call brings the key.
  void Prepare(grpc::ClientContext& context) const { BringKey(key_, context); }
  // As when the client's process dies: the server sees its end of the connection closed.
  void Cut();
  bool cut() const { return cut_; }

 private:
  const std::string key_;
  int socket_ = -1;  // A second handle of gRPC's.
  std::atomic<bool> cut_ = false;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

// Not thread-safe.
class Connections {
 public:
  // `mortal`: Kill will be called. UNAVAILABLE: nobody listens there. Other errors: see tools/client/connection.h.
  // REQUIRES: TLS is not wanted if `mortal`.
  static absl::StatusOr<std::unique_ptr<Connections>> Open(const ConnectionOptions& options, int32_t n, bool mortal);

  std::shared_ptr<Connection> For(int64_t index) const { return all_[static_cast<size_t>(index) % all_.size()]; }
  // For readers that pause.
  std::shared_ptr<Connection> Slow() const { return slow_; }
  // Cuts one connection after the other and puts a new one in its place.
  // REQUIRES: mortal.
  absl::Status Kill();
  int64_t killed() const { return killed_; }

 private:
  Connections() = default;
  absl::StatusOr<std::shared_ptr<Connection>> New() const;

  Target target_;
  bool mortal_ = false;
  std::vector<std::shared_ptr<Connection>> all_;
  std::shared_ptr<Connection> slow_;
  int64_t killed_ = 0;
};

}  // namespace lukv
