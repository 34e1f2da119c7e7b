#pragma once

#include <string>

namespace lukv {

// The body of http://host:port/path, "" on any failure. `address` is an IPv4 "host:port".
std::string HttpGet(const std::string& address, const std::string& path);

}  // namespace lukv
