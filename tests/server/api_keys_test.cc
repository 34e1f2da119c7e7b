#include "server/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "tests/server/certificates.h"
#include "tests/server/temp_folder.h"
#include "tests/server/test_server.h"
#include "vllm_engine.grpc.pb.h"

namespace lukv {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ApiKeysTest : public testing::Test {
 protected:
  ApiKeysTest() { InitLog(LogLevel::kOff, LogFormat::kText); }
  std::unique_ptr<ApiKeys> Load(const std::string& text) {
    absl::StatusOr<std::unique_ptr<ApiKeys>> keys = ApiKeys::Load(folder_.Write("keys", text));
    EXPECT_TRUE(keys.ok()) << keys.status();
    return *std::move(keys);
  }
  // "": not found.
  static std::string TenantOf(ApiKeys& keys, const std::string& key) {
    const std::optional<Caller> caller = keys.Find(key);
    return caller.has_value() ? caller->tenant : "";
  }

  TempFolder folder_;
};

TEST_F(ApiKeysTest, FindsTenants) {
  EXPECT_EQ(HexSha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4
  const auto keys = Load(absl::StrCat("# who may call\n\nann ", HexSha256("ann's"), "\r\n  bob\t", HexSha256("bob's"),
                                      " concurrency=2 # sales\nann ", HexSha256("ann's next"), "\n"));
  EXPECT_EQ(TenantOf(*keys, "ann's"), "ann");
  EXPECT_EQ(TenantOf(*keys, "ann's next"), "ann");
  EXPECT_EQ(TenantOf(*keys, "bob's"), "bob");
  for (const char* wrong : {"", "bob", "bob's ", "BOB'S"}) EXPECT_EQ(TenantOf(*keys, wrong), "") << wrong;
  EXPECT_EQ(TenantOf(*keys, HexSha256("ann's")), "") << "the hash is no key";
}

TEST_F(ApiKeysTest, RefusesWrongFilesWithoutQuotingThem) {
  const std::string hash = HexSha256("x");
  struct Case {
    std::string text;
    std::string reason;
  };
  for (const Case& wrong :
       {Case{"", "no keys"}, Case{"# nothing\n", "no keys"}, Case{"ann secret-key", "keys:1: the hash"},
        Case{absl::StrCat("\nann ", hash.substr(1)), "keys:2: the hash"}, Case{"secret-key", "keys:1: is not NAME"},
        Case{absl::StrCat("secret-key! ", hash), "the name"},
        Case{absl::StrCat("ann ", hash, " secret-key"), "what follows"},
        Case{absl::StrCat("ann ", hash, " concurrency=0"), "what follows"},
        Case{absl::StrCat("ann ", hash, " queued-tokens=99999999999999999999"), "what follows"},
        Case{absl::StrCat("ann ", hash, "\nbob ", hash), "keys:2: an earlier line has the same key"},
        Case{absl::StrCat("ann ", hash, "\nann ", HexSha256("y"), " concurrency=1"),
             "keys:2: an earlier line of this name"}}) {
    const absl::Status status = ApiKeys::Load(folder_.Write("keys", wrong.text)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wrong.text;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(wrong.reason), Not(HasSubstr("secret-key"))));
  }
  EXPECT_EQ(ApiKeys::Load(folder_.Path("none")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ApiKeysTest, ReplacedFilesCountAtOnceAndBrokenOnesDoNot) {
  const auto keys = Load(absl::StrCat("ann ", HexSha256("old")));
  folder_.Write("keys", absl::StrCat("ann ", HexSha256("new")));
  EXPECT_EQ(TenantOf(*keys, "new"), "ann");
  EXPECT_EQ(TenantOf(*keys, "old"), "");
  folder_.Write("keys", "broken");
  EXPECT_EQ(TenantOf(*keys, "new"), "ann");
  std::filesystem::remove(folder_.Path("keys"));
  EXPECT_EQ(TenantOf(*keys, "new"), "ann");
  folder_.Write("keys", absl::StrCat("bob ", HexSha256("bob's")));
  EXPECT_EQ(TenantOf(*keys, "bob's"), "bob");
  EXPECT_EQ(TenantOf(*keys, "new"), "");
}

TEST_F(ApiKeysTest, CountsCallsAndQueuedTokensOfATenant) {
  const std::string line = absl::StrCat("ann ", HexSha256("a"), " concurrency=2 queued-tokens=100\n");
  const auto keys = Load(line);
  const Caller ann = *keys->Find("a");
  absl::StatusOr<KeyUse> first = ann.Begin();
  absl::StatusOr<KeyUse> second = keys->Find("a")->Begin();
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status third = ann.Begin().status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.message()), HasSubstr("allowed are 2"));

  EXPECT_TRUE(first->Queue(60).ok());
  EXPECT_THAT(std::string(second->Queue(41).message()), AllOf(HasSubstr("60"), HasSubstr("41"), HasSubstr("100")));
  EXPECT_EQ(second->Queue(int64_t{1} << 62).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(second->Queue(40).ok());
  first->Unqueue();
  first->Unqueue();
  {
    // Another file with the same tenant goes on counting where the first one was.
    folder_.Write("keys", line + "# changed\n");
    EXPECT_FALSE(keys->Find("a")->Begin().ok());
  }
  {
    const KeyUse moved = *std::move(first);
    EXPECT_FALSE(ann.Begin().ok());
  }
  absl::StatusOr<KeyUse> fourth = ann.Begin();
  ASSERT_TRUE(fourth.ok());
  EXPECT_FALSE(fourth->Queue(61).ok()) << "40 are still there";
  EXPECT_TRUE(fourth->Queue(60).ok());
}

TEST_F(ApiKeysTest, WithoutLimitsAnyNumberGoes) {
  const auto keys = Load(absl::StrCat("ann ", HexSha256("a")));
  std::vector<KeyUse> uses;
  for (int i = 0; i < 100; ++i) {
    absl::StatusOr<KeyUse> use = keys->Find("a")->Begin();
    ASSERT_TRUE(use.ok());
    EXPECT_TRUE(use->Queue(1'000'000).ok());
    uses.push_back(*std::move(use));
  }
}

// A server that wants keys.
class KeyedServer : public ApiKeysTest {
 protected:
  NetworkOptions Network(const std::string& limits = "") {
    NetworkOptions network;
    network.api_keys = folder_.Write("keys", absl::StrCat("ann ", HexSha256("ann's"), " ", limits, "\n"));
    return network;
  }
  static Read Ask(TestServer& server, const std::vector<std::string>& authorization) {
    grpc::ClientContext context;
    for (const std::string& value : authorization) context.AddMetadata("authorization", value);
    return ReadAll(*server.Stub(), TextRequest("hi", 3), context);
  }
};

TEST_F(KeyedServer, ServesKeysThatItKnows) {
  TestServer server(Says(Bytes("abc")), {.network = Network()});
  for (const char* scheme : {"Bearer ", "bearer "}) {
    EXPECT_TRUE(Ask(server, {absl::StrCat(scheme, "ann's")}).status.ok()) << scheme;
  }
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {}, {"Bearer bob's"}, {"Bearer "}, {"ann's"}, {"Basic ann's"}, {""}, {"Bearer ann's", "Bearer ann's"}}) {
    const Read read = Ask(server, wrong);
    EXPECT_EQ(read.status.error_code(), grpc::UNAUTHENTICATED) << (wrong.empty() ? "none" : wrong[0]);
    EXPECT_EQ(ReasonOf(read.status), "UNAUTHENTICATED");
    EXPECT_FALSE(SaysWhenToRetry(read.status));
    EXPECT_THAT(read.status.error_message(), Not(HasSubstr("bob's")));
  }
}

TEST_F(KeyedServer, EveryMethodWantsAKey) {
  TestServer server(Says(Bytes("abc")), {.network = Network()});
  const auto stub = server.Stub();
  const auto all = [&](bool with_key) {
    std::vector<grpc::StatusCode> codes;
    const auto call = [&](auto method) {
      grpc::ClientContext context;
      if (with_key) context.AddMetadata("authorization", "Bearer ann's");
      codes.push_back(method(context).error_code());
    };
    call([&](grpc::ClientContext& context) {
      v1::TokenizeResponse response;
      v1::TokenizeRequest request;
      request.set_text("hi");
      return stub->Tokenize(&context, request, &response);
    });
    call([&](grpc::ClientContext& context) {
      v1::DetokenizeResponse response;
      v1::DetokenizeRequest request;
      request.add_token_ids('a');
      return stub->Detokenize(&context, request, &response);
    });
    call([&](grpc::ClientContext& context) {
      v1::GetModelResponse response;
      return stub->GetModel(&context, {}, &response);
    });
    call([&](grpc::ClientContext& context) { return ReadAll(*stub, TextRequest("hi", 1), context).status; });
    return codes;
  };
  EXPECT_THAT(all(true), testing::Each(grpc::OK));
  EXPECT_THAT(all(false), testing::Each(grpc::UNAUTHENTICATED));
}

TEST_F(KeyedServer, PlaintextMayBeExemptAndTlsIsNot) {
  const TestAuthority authority;
  const PemPair pair = authority.Issue();
  NetworkOptions network = Network();
  network.tls = {.cert = folder_.Write("cert.pem", pair.cert), .key = folder_.Write("key.pem", pair.key)};
  network.plaintext_listen = "127.0.0.1:0";
  network.keys_exempt_plaintext = true;
  TestServer server(Says(Bytes("abc")), {.network = network});
  const auto ask = [](const std::shared_ptr<grpc::Channel>& channel) {
    return ReadAll(*v1::Inference::NewStub(channel), TextRequest("hi", 3)).status.error_code();
  };
  EXPECT_EQ(ask(NewChannel(server.server().plaintext_address())), grpc::OK);
  EXPECT_EQ(
      ask(grpc::CreateChannel(server.server().address(), grpc::SslCredentials({.pem_root_certs = authority.pem()}))),
      grpc::UNAUTHENTICATED);
}

TEST_F(KeyedServer, TheGatewaysProtocolWantsAKeyToo) {
  TestServer server(Says(Bytes("abc")), {.network = Network()});
  const auto stub = vllm::grpc::engine::VllmEngine::NewStub(server.Channel());
  const auto ask = [&](bool with_key) {
    grpc::ClientContext context;
    if (with_key) context.AddMetadata("authorization", "Bearer ann's");
    vllm::grpc::engine::GetModelInfoResponse response;
    return stub->GetModelInfo(&context, {}, &response).error_code();
  };
  EXPECT_EQ(ask(true), grpc::OK);
  EXPECT_EQ(ask(false), grpc::UNAUTHENTICATED);
}

TEST_F(KeyedServer, WhoHasNoKeyDoesNotLearnWhetherTheModelIsThere) {
  TestServer server(Says(Bytes("abc")), {.loading = true, .network = Network()});
  EXPECT_EQ(Ask(server, {}).status.error_code(), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Ask(server, {"Bearer ann's"}).status.error_code(), grpc::UNAVAILABLE);
}

TEST_F(KeyedServer, LimitsOfAKeyRefuseWithTheReason) {
  TestServer server(Says(Bytes("abc")), {.network = Network("concurrency=2 queued-tokens=5")});
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer ann's");
  const auto reader = stub->Generate(&context, TextRequest("hi", 3));  // 3 tokens
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  const Read queued = Ask(server, {"Bearer ann's"});
  EXPECT_EQ(queued.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(queued.status), "KEY_LIMIT");
  EXPECT_TRUE(SaysWhenToRetry(queued.status));

  server.engine().SetGate(true);
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_TRUE(reader->Finish().ok());
  // Whoever has read the end of a call has its share again.
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Ask(server, {"Bearer ann's"}).status.ok());
}

TEST_F(KeyedServer, OneCallAtATimeMeansThat) {
  TestServer server(Says(Bytes("abc")), {.network = Network("concurrency=1")});
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Ask(server, {"Bearer ann's"}).status.ok());
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer ann's");
  const auto reader = stub->Generate(&context, TextRequest("hi", 3));
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  EXPECT_EQ(ReasonOf(Ask(server, {"Bearer ann's"}).status), "KEY_LIMIT");
  // Nothing is computed for it: not even whether its request is a good one.
  grpc::ClientContext hasty;
  hasty.AddMetadata("authorization", "Bearer ann's");
  EXPECT_EQ(ReasonOf(ReadAll(*stub, TextRequest("hi", -1), hasty).status), "KEY_LIMIT");
  context.TryCancel();
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
}

TEST_F(KeyedServer, PromptsCountAsQueuedUntilTheFirstToken) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')), {.network = Network("queued-tokens=5")});
  const auto stub = server.Stub();
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer ann's");
  const auto reader = stub->Generate(&context, TextRequest("hi", 900));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.engine().SetGate(false);  // It goes no further, and counts no more.
  std::thread second([&] { EXPECT_TRUE(Ask(server, {"Bearer ann's"}).status.ok()); });
  server.engine().SetGate(true);
  second.join();
  while (reader->Read(&message)) continue;
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(KeyedServer, TheTenantReachesTheEngine) {
  std::string tenant = "nobody";
  const auto script = [&](const ValidRequest& request, int32_t) {
    tenant = request.tenant;
    return Bytes("abc");
  };
  TestServer server(script, {.network = Network()});
  EXPECT_TRUE(Ask(server, {"Bearer ann's"}).status.ok());
  EXPECT_EQ(tenant, "ann");
}

}  // namespace
}  // namespace lukv
