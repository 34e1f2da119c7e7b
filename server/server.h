// A listening server: gRPC with health and reflection, and the metrics page.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "server/served_model.h"

namespace lukv {

class Server {
 public:
  // Listens at once: health answers while the model is still being loaded. UNAVAILABLE: an address cannot be used;
  // another error: a file of keys or certificates cannot.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const NetworkOptions& options, const std::string& model_name);
  // Ends what still runs.
  ~Server();

  // With the ports that were taken.
  const std::string& address() const;
  const std::string& plaintext_address() const;  // "": none, as for those below.
  const std::string& health_address() const;
  const std::string& metrics_address() const;
  // Open connections by TCP, for metrics.
  int32_t connections() const;

  // Once: from now on the model is served.
  void Serve(ServedModel model);

  // Reports NOT_SERVING, takes no new calls, lets the running ones finish within the timeout and ends the rest with
  // UNAVAILABLE. Returns when all are gone.
  void Drain(absl::Duration timeout);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lukv
