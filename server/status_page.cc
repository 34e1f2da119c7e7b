#include "server/status_page.h"

#include <civetweb.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lukv {
namespace {

int Serve(mg_connection* connection, void* data) {
  const auto& page = *static_cast<const StatusPage::Page*>(data);
  const mg_request_info* request = mg_get_request_info(connection);
  if (std::strcmp(request->request_method, "GET") != 0) {
    mg_send_http_error(connection, 405, "%s", "");
    return 405;
  }
  const std::string text = page.text();
  mg_send_http_ok(connection, page.content_type.c_str(), static_cast<long long>(text.size()));
  mg_write(connection, text.data(), text.size());
  return 200;
}

}  // namespace

struct StatusPage::Impl {
  ~Impl() {
    if (server != nullptr) mg_stop(server);
  }

  std::string address;
  std::map<std::string, Page> pages;  // Not changed any more: the server points into it.
  mg_context* server = nullptr;
};

StatusPage::StatusPage(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StatusPage::~StatusPage() = default;

const std::string& StatusPage::address() const { return impl_->address; }

absl::StatusOr<std::unique_ptr<StatusPage>> StatusPage::Listen(const std::string& address,
                                                               std::map<std::string, Page> pages) {
  auto impl = std::make_unique<Impl>();
  impl->pages = std::move(pages);
  // Somebody who opens connections and says nothing holds a thread; there are few, and not for long.
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           "4",
                           "request_timeout_ms",
                           "5000",
                           "enable_directory_listing",
                           "no",
                           nullptr};
  const mg_callbacks callbacks = {};
  impl->server = mg_start(&callbacks, nullptr, options);
  mg_server_port port = {};
  if (impl->server == nullptr || mg_get_server_ports(impl->server, 1, &port) != 1) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, " for metrics: it is taken or no address of this machine"));
  }
  impl->address = absl::StrCat(address.substr(0, address.rfind(':')), ":", port.port);
  for (auto& [path, page] : impl->pages) {
    // The $ keeps paths below it out.
    mg_set_request_handler(impl->server, absl::StrCat(path, "$").c_str(), &Serve, &page);
  }
  return std::unique_ptr<StatusPage>(new StatusPage(std::move(impl)));
}

}  // namespace lukv
