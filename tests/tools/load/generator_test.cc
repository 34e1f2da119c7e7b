// The generator against a real server with a fake model, over loopback.
#include "tools/load/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "engine/refusal.h"
#include "tests/server/certificates.h"
#include "tests/server/temp_folder.h"
#include "tests/server/test_server.h"
#include "tools/load/books.h"
#include "tools/load/run.h"
#include "tools/load/summary.h"

namespace lukv {
namespace {

class GeneratorTest : public testing::Test {
 protected:
  GeneratorTest() {
    options_.connection.server = server_.server().address();
    options_.prompt = *Lengths::Parse("uniform:1:20");
    options_.output = *Lengths::Parse("uniform:1:5");
    options_.concurrency = 4;
    options_.requests = 30;
    options_.connections = 2;
  }

  std::unique_ptr<Generator> Make() {
    absl::StatusOr<std::unique_ptr<Connections>> connections =
        Connections::Open(options_.connection, options_.connections, options_.kill_every > absl::ZeroDuration());
    EXPECT_TRUE(connections.ok()) << connections.status();
    return std::make_unique<Generator>(options_,
                                       RequestPlanner(options_, FakeTokenizer::kVocabulary, FakeEngine::kMaxContext),
                                       *std::move(connections));
  }
  LoadRun RunAll() {
    absl::StatusOr<LoadRun> run = Make()->Run();
    EXPECT_TRUE(run.ok()) << run.status();
    return *std::move(run);
  }
  static std::map<Ending, int> Endings(const LoadRun& run) {
    std::map<Ending, int> endings;
    for (const RequestRecord& record : run.records) ++endings[record.ending];
    return endings;
  }

  TestServer server_{Says(std::vector<TokenId>(FakeEngine::kMaxContext, 65))};
  LoadOptions options_;
};

TEST_F(GeneratorTest, AClosedLoopSendsAllOfItsRequests) {
  const LoadRun run = RunAll();
  EXPECT_EQ(run.sent, 30);
  EXPECT_EQ(Endings(run)[Ending::kOk], 30);
  EXPECT_TRUE(CheckEndings(run).balances());
  EXPECT_EQ(Summarise(options_, run, {}).wrong_tokens, 0);
  int32_t tokens = 0;
  for (const RequestRecord& record : run.records) tokens += record.tokens;
  EXPECT_EQ(server_.engine().tokens_made(), tokens);
}

TEST_F(GeneratorTest, AnOpenLoopSendsWhateverBecomesOfThem) {
  options_.concurrency = 0;
  options_.rate = 2000;
  server_.engine().SetGate(false);  // Nothing ends while it sends.
  const std::unique_ptr<Generator> generator = Make();
  absl::StatusOr<LoadRun> run = absl::UnknownError("");
  std::thread sending([&] { run = generator->Run(); });
  while (server_.engine().Stats().running < 30) std::this_thread::yield();
  server_.engine().SetGate(true);
  sending.join();
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(Endings(*run)[Ending::kOk], 30);
}

TEST_F(GeneratorTest, ManyStreamsRunAtOnce) {
  options_.concurrency = 500;
  options_.requests = 500;
  server_.engine().SetGate(false);
  const std::unique_ptr<Generator> generator = Make();
  absl::StatusOr<LoadRun> run = absl::UnknownError("");
  std::thread sending([&] { run = generator->Run(); });
  while (server_.engine().Stats().running < 500) std::this_thread::yield();
  server_.engine().SetGate(true);
  sending.join();
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(Endings(*run)[Ending::kOk], 500);
}

TEST_F(GeneratorTest, RefusalsHaveTheirReason) {
  server_.engine().RefuseNext(Refused(Refusal::kQueueFull, "too many"));
  options_.requests = 3;
  options_.concurrency = 1;
  const LoadRun run = RunAll();
  EXPECT_EQ(run.records[0].ending, Ending::kRefused);
  EXPECT_EQ(run.records[0].reason, "QUEUE_FULL");
  EXPECT_EQ(Endings(run)[Ending::kOk], 2);
}

TEST_F(GeneratorTest, AFaultOfTheServerIsAFailure) {
  server_.engine().RefuseNext(absl::InternalError("broken"));
  options_.requests = 2;
  const LoadRun run = RunAll();
  EXPECT_EQ(Endings(run)[Ending::kFailed], 1);
  EXPECT_EQ(Endings(run)[Ending::kOk], 1);
}

TEST_F(GeneratorTest, ClientsCancelWhereTheyWereToldTo) {
  options_.cancel_share = 1;
  options_.output = *Lengths::Parse("900");
  options_.requests = 10;
  for (const RequestRecord& record : RunAll().records) {
    // One that is quick ends before its client can cancel it.
    EXPECT_THAT(record.ending, testing::AnyOf(Ending::kCancelled, Ending::kOk)) << record.message;
  }
}

TEST_F(GeneratorTest, DeadlinesPass) {
  server_.engine().SetGate(false);
  options_.deadline_share = 1;
  options_.deadline = absl::Milliseconds(20);
  EXPECT_EQ(Endings(RunAll())[Ending::kDeadline], 30);
}

TEST_F(GeneratorTest, SlowReadersGetEverything) {
  options_.slow_readers_share = 1;
  options_.slow_pause = absl::Milliseconds(1);
  options_.output = *Lengths::Parse("600");
  options_.requests = 4;
  const LoadRun run = RunAll();
  EXPECT_EQ(Endings(run)[Ending::kOk], 4);
  EXPECT_EQ(Summarise(options_, run, {}).wrong_tokens, 0);
}

TEST_F(GeneratorTest, KilledConnectionsTakeTheirRequestsAlong) {
  server_.engine().SetGate(false);  // Requests end with their connections and in no other way.
  options_.kill_every = absl::Milliseconds(20);
  options_.requests = 12;
  options_.drain = absl::Milliseconds(50);
  const LoadRun run = RunAll();
  // To send 12 with 4 in flight at most, 8 must have ended.
  EXPECT_GE(Endings(run)[Ending::kKilled], 8);
  EXPECT_EQ(Endings(run)[Ending::kKilled] + Endings(run)[Ending::kStuck], 12);
  EXPECT_GE(run.connections_killed, 2);
  while (server_.engine().Stats().running > 0) std::this_thread::yield();
}

TEST_F(GeneratorTest, WhatNeverEndsIsStuck) {
  server_.engine().SetGate(false);
  options_.requests = 4;
  options_.drain = absl::Milliseconds(50);
  EXPECT_EQ(Endings(RunAll())[Ending::kStuck], 4);
}

TEST_F(GeneratorTest, TheIntruderComesAndEndsTheRun) {
  options_.requests = 2;
  options_.intruder_tokens = 300;
  options_.intruder_at = absl::Milliseconds(10);
  const LoadRun run = RunAll();
  ASSERT_TRUE(run.intruder.has_value());
  EXPECT_EQ(run.intruder->ending, Ending::kOk);
  EXPECT_EQ(run.intruder->prompt_tokens, 300);
  EXPECT_EQ(run.sent, 2);
  EXPECT_EQ(run.records.size(), 2u);
}

TEST_F(GeneratorTest, AStopEndsTheRun) {
  server_.engine().SetGate(false);
  const std::unique_ptr<Generator> generator = Make();
  absl::StatusOr<LoadRun> run = absl::UnknownError("");
  std::thread sending([&] { run = generator->Run(); });
  while (server_.engine().Stats().running < 4) std::this_thread::yield();
  generator->Stop();
  sending.join();
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->sent, 4);
  EXPECT_EQ(Endings(*run)[Ending::kCancelled], 4);
}

TEST(Connections, SayThatNobodyListens) {
  const auto mortal = Connections::Open({.server = "127.0.0.1:1"}, 1, /*mortal=*/true);
  EXPECT_EQ(mortal.status().code(), absl::StatusCode::kUnavailable);
}

TEST(RunLoad, ChecksTheServersBooks) {
  TestServer server(Says(std::vector<TokenId>(FakeEngine::kMaxContext, 65)), {.metrics = true});
  LoadOptions options;
  options.connection.server = server.server().address();
  options.metrics = server.server().metrics_address();
  options.concurrency = 4;
  options.requests = 20;
  options.output = *Lengths::Parse("3");
  const absl::StatusOr<LoadOutcome> outcome = RunLoad(options);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->findings) << outcome->text;
  EXPECT_THAT(outcome->text, testing::HasSubstr("the server's counters agree"));
}

TEST(SecuredGenerator, SpeaksTlsAndBringsItsKey) {
  TempFolder folder;
  const TestAuthority authority;
  const PemPair pair = authority.Issue();
  NetworkOptions network;
  network.tls = {.cert = folder.Write("cert.pem", pair.cert), .key = folder.Write("key.pem", pair.key)};
  network.api_keys = folder.Write("keys", absl::StrCat("ann ", HexSha256("ann's"), "\n"));
  TestServer server(Says(std::vector<TokenId>(FakeEngine::kMaxContext, 65)), {.network = network});
  LoadOptions options;
  options.connection = {.server = server.server().address(),
                        .tls_ca = folder.Write("ca.pem", authority.pem()),
                        .api_key_file = folder.Write("key", "ann's\n")};
  options.prompt = *Lengths::Parse("uniform:1:20");
  options.output = *Lengths::Parse("uniform:1:5");
  options.concurrency = 2;
  options.requests = 5;
  const absl::StatusOr<LoadOutcome> outcome = RunLoad(options);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->findings) << outcome->text;
  EXPECT_GT(server.engine().tokens_made(), 0);

  options.connection.api_key_file = folder.Write("other", "bob's");
  EXPECT_EQ(RunLoad(options).status().code(), absl::StatusCode::kUnavailable);
  options.connection.api_key_file = folder.Path("none");
  EXPECT_FALSE(RunLoad(options).ok());
}

}  // namespace
}  // namespace lukv
