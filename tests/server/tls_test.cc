// TLS and mutual TLS, and files that are replaced while the server listens.
#include "server/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/certificates.h"
#include "tests/server/temp_folder.h"
#include "tests/server/test_server.h"

namespace lukv {
namespace {

using testing::HasSubstr;

class TlsTest : public testing::Test {
 protected:
  TlsTest() { Use(authority_.Issue()); }

  void Use(const PemPair& pair) {
    folder_.Write("cert.pem", pair.cert);
    folder_.Write("key.pem", pair.key);
  }
  TlsOptions Files(bool mutual = false) const {
    return {.cert = folder_.Path("cert.pem"),
            .key = folder_.Path("key.pem"),
            .client_ca = mutual ? folder_.Path("clients.pem") : ""};
  }
  static NetworkOptions With(TlsOptions tls) {
    NetworkOptions network;
    network.tls = std::move(tls);
    return network;
  }

  TempFolder folder_;
  TestAuthority authority_;
};

std::shared_ptr<grpc::Channel> TlsChannel(const std::string& address, const TestAuthority& trusted,
                                          const PemPair& own = {}) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(
      address,
      grpc::SslCredentials({.pem_root_certs = trusted.pem(), .pem_private_key = own.key, .pem_cert_chain = own.cert}),
      arguments);
}

grpc::StatusCode Ask(const std::shared_ptr<grpc::Channel>& channel) {
  return ReadAll(*v1::Inference::NewStub(channel), TextRequest("hi", 3)).status.error_code();
}

TEST_F(TlsTest, ServesWhoTrustsTheAuthority) {
  TestServer server(Says(Bytes("abc")), {.network = With(Files())});
  const std::string address = server.server().address();
  EXPECT_EQ(Ask(TlsChannel(address, authority_)), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(address, TestAuthority())), grpc::UNAVAILABLE);
  EXPECT_EQ(Ask(NewChannel(address)), grpc::UNAVAILABLE) << "plaintext";
}

TEST_F(TlsTest, PlaintextHasAnAddressOfItsOwn) {
  NetworkOptions network = With(Files());
  network.plaintext_listen = "127.0.0.1:0";
  TestServer server(Says(Bytes("abc")), {.network = network});
  EXPECT_EQ(Ask(NewChannel(server.server().plaintext_address())), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(server.server().address(), authority_)), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(server.server().plaintext_address(), authority_)), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, MutualTlsWantsACertificateOfTheClientsAuthority) {
  const TestAuthority clients;
  folder_.Write("clients.pem", clients.pem());
  TestServer server(Says(Bytes("abc")), {.network = With(Files(/*mutual=*/true))});
  const std::string address = server.server().address();
  EXPECT_EQ(Ask(TlsChannel(address, authority_, clients.Issue())), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(address, authority_)), grpc::UNAVAILABLE);
  EXPECT_EQ(Ask(TlsChannel(address, authority_, authority_.Issue())), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, ReplacedFilesCountForTheNextConnection) {
  const TestAuthority clients;
  folder_.Write("clients.pem", clients.pem());
  TestServer server(Says(Bytes("abc")), {.network = With(Files(/*mutual=*/true))});
  const std::string address = server.server().address();
  const auto open = TlsChannel(address, authority_, clients.Issue());
  EXPECT_EQ(Ask(open), grpc::OK);

  const TestAuthority next;
  Use(next.Issue());
  EXPECT_EQ(Ask(TlsChannel(address, next, clients.Issue())), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(address, authority_, clients.Issue())), grpc::UNAVAILABLE) << "the old certificate";
  EXPECT_EQ(Ask(open), grpc::OK) << "goes on as it began";

  const TestAuthority next_clients;
  folder_.Write("clients.pem", next_clients.pem());
  EXPECT_EQ(Ask(TlsChannel(address, next, next_clients.Issue())), grpc::OK);
  EXPECT_EQ(Ask(TlsChannel(address, next, clients.Issue())), grpc::UNAVAILABLE) << "the old clients";
}

TEST_F(TlsTest, BrokenFilesLeaveWhatThereWas) {
  TestServer server(Says(Bytes("abc")), {.network = With(Files())});
  const std::string address = server.server().address();
  const PemPair good = authority_.Issue();
  const TestAuthority other;
  for (const PemPair& broken : {PemPair{good.cert, other.Issue().key}, PemPair{"nothing", good.key},
                                PemPair{good.cert + "-----BEGIN CERTIFICATE-----\nMII", good.key},
                                PemPair{good.cert, good.key.substr(0, 60)}, PemPair{"", ""}}) {
    Use(broken);
    EXPECT_EQ(Ask(TlsChannel(address, authority_)), grpc::OK);
  }
  std::filesystem::remove(folder_.Path("cert.pem"));
  EXPECT_EQ(Ask(TlsChannel(address, authority_)), grpc::OK);
  Use(other.Issue());
  EXPECT_EQ(Ask(TlsChannel(address, other)), grpc::OK) << "and good ones are taken again";
}

TEST_F(TlsTest, FilesThatCannotBeUsedAreAnErrorAtTheStart) {
  EXPECT_TRUE(TlsCredentials(Files()).ok());
  folder_.Write("key.pem", TestAuthority().Issue().key);
  const absl::Status mixed = TlsCredentials(Files()).status();
  EXPECT_EQ(mixed.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(mixed.message()), testing::AllOf(HasSubstr("key.pem"), HasSubstr("cert.pem")));
  std::filesystem::remove(folder_.Path("key.pem"));
  EXPECT_EQ(TlsCredentials(Files()).status().code(), absl::StatusCode::kNotFound);
  NetworkOptions network = With(Files());
  network.metrics_listen = "";
  EXPECT_EQ(Server::Listen(network, "m").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lukv
