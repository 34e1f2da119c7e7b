// The programs with certificates and keys, as an operator would set them up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "tests/e2e/process.h"
#include "tests/server/certificates.h"
#include "tests/server/temp_folder.h"

namespace lukv {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kKey[] = "a-key-that-nobody-guesses";

// What lukv-client says, and its exit code.
struct Said {
  int code = 0;
  std::string out;
  std::string err;
};
Said Client(const std::vector<std::string>& arguments, const std::string& input = "") {
  Process client("lukv-client", arguments, input);
  const int code = client.Wait();
  return {.code = code, .out = client.Stdout(), .err = client.Stderr()};
}

class Secured : public testing::Test {
 protected:
  Secured() {
    const PemPair server = authority_.Issue();
    const PemPair client = clients_.Issue();
    folder_.Write("ca.pem", authority_.pem());
    folder_.Write("cert.pem", server.cert);
    folder_.Write("key.pem", server.key);
    folder_.Write("clients.pem", clients_.pem());
    folder_.Write("client-cert.pem", client.cert);
    folder_.Write("client-key.pem", client.key);
    folder_.Write("api-key", std::string(kKey) + "\n");
  }

  // A question with what else is given.
  static std::vector<std::string> Ask(const std::string& address, std::vector<std::string> more) {
    const std::vector<std::string> question = {"--server", address, "--prompt", "The sky is", "--max-tokens", "2"};
    more.insert(more.end(), question.begin(), question.end());
    return more;
  }

  TempFolder folder_;
  TestAuthority authority_;
  TestAuthority clients_;
};

TEST_F(Secured, MutualTlsAndKeysTogether) {
  const Said line = Client({"hash-key", "ann"}, std::string(kKey) + "\n");
  EXPECT_EQ(line.code, 0) << line.err;
  EXPECT_THAT(line.out, AllOf(testing::StartsWith("ann "), Not(HasSubstr(kKey))));
  ServerProcess server({"--tls-cert", folder_.Path("cert.pem"), "--tls-key", folder_.Path("key.pem"), "--tls-client-ca",
                        folder_.Path("clients.pem"), "--api-keys", folder_.Write("keys", line.out),
                        "--plaintext-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
                        "--keys-exempt-plaintext"});
  const std::vector<std::string> tls = {"--tls-ca",   folder_.Path("ca.pem"),
                                        "--tls-cert", folder_.Path("client-cert.pem"),
                                        "--tls-key",  folder_.Path("client-key.pem")};
  std::vector<std::string> all = tls;
  all.insert(all.end(), {"--api-key-file", folder_.Path("api-key")});
  const Said good = Client(Ask(server.address(), all));
  EXPECT_EQ(good.code, 0) << good.err;

  const Said no_key = Client(Ask(server.address(), tls));
  EXPECT_EQ(no_key.code, 1);
  EXPECT_THAT(no_key.err, HasSubstr("API key"));
  setenv("LUKV_API_KEY", kKey, 1);
  EXPECT_EQ(Client(Ask(server.address(), tls)).code, 0);
  unsetenv("LUKV_API_KEY");
  EXPECT_EQ(Client(Ask(server.address(), {"--tls-ca", folder_.Path("ca.pem")})).code, 1) << "no certificate";
  EXPECT_EQ(Client(Ask(server.address(), {})).code, 1) << "no TLS";
  EXPECT_EQ(Client(Ask(server.plaintext_address(), {})).code, 0) << "where neither is asked for";

  EXPECT_EQ(Client({"health", "--server", server.health_address()}).out, "SERVING\n");
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 0);
  EXPECT_THAT(server.process().Stderr(), AllOf(HasSubstr("mutual TLS"), Not(HasSubstr(kKey))));
}

TEST_F(Secured, FilesThatCannotBeUsedEndTheStartInOneLine) {
  folder_.Write("key.pem", authority_.Issue().key);
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {"--tls-cert", folder_.Path("cert.pem"), "--tls-key", folder_.Path("key.pem")},
           {"--api-keys", folder_.Path("none")}}) {
    std::vector<std::string> arguments = {"--model",     DemoModelPath(),    "--listen",
                                          "127.0.0.1:0", "--metrics-listen", ""};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    Process server("lukv-server", arguments);
    EXPECT_EQ(server.Wait(), 1);
    EXPECT_THAT(server.Stderr(), testing::MatchesRegex("lukv-server: [^\n]*\n"));
  }
}

TEST(Client, RefusesWrongUseOfProtection) {
  EXPECT_EQ(Client({"hash-key", "ann"}, "short").code, 2);
  EXPECT_EQ(Client({"hash-key", "ann"}, "long enough, but with spaces").code, 2);
  EXPECT_EQ(Client({"hash-key"}, kKey).code, 2);
  EXPECT_EQ(Client({"--prompt", "x", "--tls-cert", "c"}).code, 2);
  EXPECT_EQ(Client({"--prompt", "x", "--tls-ca", "/no/such/file"}).code, 2);
  EXPECT_EQ(Client({"--prompt", "x", "--api-key-file", "/no/such/file"}).code, 2);
}

}  // namespace
}  // namespace lukv
