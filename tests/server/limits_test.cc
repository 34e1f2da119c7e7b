// What a server does not put up with: each limit bites.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_server.h"

namespace lukv {
namespace {

NetworkOptions With(ConnectionLimits limits) {
  NetworkOptions network;
  network.limits = limits;
  return network;
}

// A connection that the server has taken: it got its settings.
bool Greeted(RawConnection& connection) {
  connection.Greet();
  return connection.Await(Http2Frame::kSettings).has_value();
}

uint8_t ErrorOf(const Http2Frame& goaway) { return static_cast<uint8_t>(goaway.payload.at(7)); }

TEST(Limits, AHandshakeHasToEnd) {
  TestServer server(Says({'a'}), {.network = With({.handshake_timeout = absl::Milliseconds(50)})});
  RawConnection silent(server.server().address());
  while (silent.Next().has_value()) continue;
}

TEST(Limits, AnIdleConnectionIsClosed) {
  TestServer server(Says({'a'}), {.network = With({.max_connection_idle = absl::Milliseconds(50)})});
  RawConnection idle(server.server().address());
  ASSERT_TRUE(Greeted(idle));
  EXPECT_TRUE(idle.Await(Http2Frame::kGoAway).has_value());
  while (idle.Next().has_value()) continue;
}

TEST(Limits, AnOldConnectionTakesNoMoreCallsButThoseItHasMayEnd) {
  TestServer server(Says(Bytes("abc")), {.network = With({.max_connection_age = absl::Milliseconds(50)})});
  server.engine().SetGate(false);
  const auto channel = server.Channel();
  const auto stub = v1::Inference::NewStub(channel);
  // gRPC 1.51 closes an old connection as soon as its last call has ended, and what a client has not read by then is
  // lost if it happens to write at that moment. A second call holds the connection while the first ends.
  grpc::ClientContext watching;
  const auto watch = grpc::health::v1::Health::NewStub(channel)->Watch(&watching, {});
  grpc::health::v1::HealthCheckResponse health;
  ASSERT_TRUE(watch->Read(&health));
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, TextRequest("hi", 3));
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  // Sooner or later a call of the same channel needs another connection.
  while (server.server().connections() < 2) {
    grpc::ClientContext other;
    v1::GetModelResponse model;
    EXPECT_TRUE(stub->GetModel(&other, {}, &model).ok());
  }
  server.engine().SetGate(true);
  Read read;
  for (v1::GenerateResponse message; reader->Read(&message);) read.messages.push_back(message);
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_code() << ' ' << status.error_message();
  EXPECT_EQ(read.Text(), "abc");
  watching.TryCancel();
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(Limits, WhoPingsTooOftenIsCutOff) {
  TestServer server(Says({'a'}));
  RawConnection nervous(server.server().address());
  ASSERT_TRUE(Greeted(nervous));
  for (int i = 0; i < 10; ++i) nervous.Ping();
  const auto goaway = nervous.Await(Http2Frame::kGoAway);
  ASSERT_TRUE(goaway.has_value());
  constexpr uint8_t kEnhanceYourCalm = 0xb;
  EXPECT_EQ(ErrorOf(*goaway), kEnhanceYourCalm);
  while (nervous.Next().has_value()) continue;
}

TEST(Limits, PingsOfTheAllowedPaceAreAnswered) {
  TestServer server(Says({'a'}), {.network = With({.min_ping_interval = absl::ZeroDuration()})});
  RawConnection steady(server.server().address());
  ASSERT_TRUE(Greeted(steady));
  for (int i = 0; i < 10; ++i) {
    steady.Ping();
    const auto answer = steady.Await(Http2Frame::kPing);
    ASSERT_TRUE(answer.has_value());
  }
}

TEST(Limits, MetadataHasASize) {
  TestServer server(Says(Bytes("abc")), {.network = With({.max_metadata_bytes = 4096})});
  const auto ask = [&](size_t bytes) {
    grpc::ClientContext context;
    context.AddMetadata("x-much", std::string(bytes, 'm'));
    return ReadAll(*server.Stub(), TextRequest("hi", 3), context).status.error_code();
  };
  EXPECT_EQ(ask(3000), grpc::OK);
  EXPECT_EQ(ask(5000), grpc::RESOURCE_EXHAUSTED);
}

TEST(Limits, MessagesHaveASize) {
  TestServer server(Says(Bytes("abc")), {.network = With({.max_message_bytes = 1024})});
  const auto ask = [&](size_t bytes) {
    return ReadAll(*server.Stub(), TextRequest(std::string(bytes, 'm'), 3)).status.error_code();
  };
  EXPECT_EQ(ask(900), grpc::OK);
  EXPECT_EQ(ask(1100), grpc::RESOURCE_EXHAUSTED);
}

TEST(Limits, ConnectionsAreCountedAndComeBack) {
  TestServer server(Says({'a'}), {.network = With({.max_connections = 2})});
  const std::string address = server.server().address();
  auto first = std::make_unique<RawConnection>(address);
  RawConnection second(address);
  ASSERT_TRUE(Greeted(*first) && Greeted(second));
  EXPECT_EQ(server.server().connections(), 2);
  {
    RawConnection third(address);
    EXPECT_FALSE(Greeted(third));
  }
  EXPECT_EQ(ReadAll(*server.Stub(), TextRequest("hi", 1)).status.error_code(), grpc::UNAVAILABLE);
  first.reset();
  while (server.server().connections() == 2) std::this_thread::yield();
  RawConnection fourth(address);
  EXPECT_TRUE(Greeted(fourth));
}

TEST(Limits, ConnectionsThatTheServerClosesComeBackToo) {
  TestServer server(Says({'a'}), {.network = With({.max_connections = 1})});
  const std::string address = server.server().address();
  RawConnection nervous(address);
  ASSERT_TRUE(Greeted(nervous));
  for (int i = 0; i < 10; ++i) nervous.Ping();
  while (nervous.Next().has_value()) continue;
  while (server.server().connections() == 1) std::this_thread::yield();
  RawConnection next(address);
  EXPECT_TRUE(Greeted(next));
}

TEST(Limits, CallsOfAConnectionBeyondItsStreamsWait) {
  TestServer server(Says(Bytes("abc")), {.network = With({.max_streams = 1})});
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext first_context;
  const auto first = stub->Generate(&first_context, TextRequest("hi", 3));
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  std::thread second([&] { EXPECT_TRUE(ReadAll(*stub, TextRequest("hi", 3)).status.ok()); });
  // Another connection's calls are taken, and the second call is not among them.
  const auto other = server.Stub();
  grpc::ClientContext third_context;
  const auto third = other->Generate(&third_context, TextRequest("hi", 3));
  while (server.engine().Stats().running < 2) std::this_thread::yield();
  EXPECT_EQ(server.engine().Stats().running, 2);
  server.engine().SetGate(true);
  for (auto* reader : {first.get(), third.get()}) {
    v1::GenerateResponse message;
    while (reader->Read(&message)) continue;
    EXPECT_TRUE(reader->Finish().ok());
  }
  second.join();
}

}  // namespace
}  // namespace lukv
