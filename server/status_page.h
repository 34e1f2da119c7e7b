// The server's pages for Prometheus and for people, over plain HTTP.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lukv {

class StatusPage {
 public:
  struct Page {
    std::string content_type;
    std::function<std::string()> text;  // Called on threads of the page's own, several at a time.
  };

  // Serves GET of the pages by their paths ("/metrics"). UNAVAILABLE: the address (host:port) cannot be used.
  static absl::StatusOr<std::unique_ptr<StatusPage>> Listen(const std::string& address,
                                                            std::map<std::string, Page> pages);
  // Waits for pages that are being written.
  ~StatusPage();

  const std::string& address() const;  // With the port that was taken.

 private:
  struct Impl;
  explicit StatusPage(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lukv
