#include "tests/server/raw_connection.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace lukv {
namespace {

constexpr uint8_t kAck = 1;

std::string Frame(uint8_t type, uint8_t flags, const std::string& payload) {
  const auto size = static_cast<char>(payload.size());
  return std::string{0, 0, size, static_cast<char>(type), static_cast<char>(flags), 0, 0, 0, 0} + payload;
}

}  // namespace

RawConnection::RawConnection(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience = {.tv_sec = 60, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0) << std::strerror(errno);
}

RawConnection::~RawConnection() { close(fd_); }

void RawConnection::Greet() { Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(Http2Frame::kSettings, 0, "")); }

void RawConnection::Ping() { Send(Frame(Http2Frame::kPing, 0, "12345678")); }

std::optional<Http2Frame> RawConnection::Next() {
  std::string header;
  if (!Receive(9, header)) return std::nullopt;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(header[i]); };
  Http2Frame frame{.type = byte(3), .flags = byte(4), .payload = ""};
  const size_t length = static_cast<size_t>(byte(0)) << 16 | static_cast<size_t>(byte(1)) << 8 | byte(2);
  if (!Receive(length, frame.payload)) return std::nullopt;
  if (frame.type == Http2Frame::kPing && frame.flags == 0) Send(Frame(Http2Frame::kPing, kAck, frame.payload));
  return frame;
}

std::optional<Http2Frame> RawConnection::Await(Http2Frame::Type type) {
  std::optional<Http2Frame> frame = Next();
  while (frame.has_value() && frame->type != type) frame = Next();
  return frame;
}

// To a closed connection: what is read next shows it.
void RawConnection::Send(const std::string& bytes) { send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

bool RawConnection::Receive(size_t n, std::string& bytes) {
  bytes.resize(n);
  size_t done = 0;
  while (done < n) {
    const ssize_t got = recv(fd_, bytes.data() + done, n - done, 0);
    if (got <= 0) {
      EXPECT_FALSE(got < 0 && errno == EAGAIN) << "the server says nothing and does not close the connection";
      return false;
    }
    done += static_cast<size_t>(got);
  }
  return true;
}

}  // namespace lukv
