// HTTP/2 by hand: what no well-behaved client does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lukv {

struct Http2Frame {
  enum Type : uint8_t { kSettings = 4, kPing = 6, kGoAway = 7 };
  uint8_t type = 0;
  uint8_t flags = 0;
  std::string payload;
};

class RawConnection {
 public:
  // To "127.0.0.1:PORT".
  explicit RawConnection(const std::string& address);
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // The client's preface with empty settings.
  void Greet();
  void Ping();
  // The next frame; the server's pings are answered. Nothing: the server closed the connection. A server that does
  // neither for a minute is a failure of the test.
  std::optional<Http2Frame> Next();
  // Reads on to the end, or to a frame of this type.
  std::optional<Http2Frame> Await(Http2Frame::Type type);

 private:
  void Send(const std::string& bytes);
  bool Receive(size_t n, std::string& bytes);

  int fd_ = -1;
};

}  // namespace lukv
