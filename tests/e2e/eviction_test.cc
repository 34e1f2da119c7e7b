// Eviction as a client of a real server with the demo model and its shipped budget curves sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/process.h"
#include "tests/server/test_client.h"

namespace lukv {
namespace {

using testing::HasSubstr;

constexpr char kNeedle[] = " The secret ingredient of the soup at the Blue Heron is roasted fennel.";
constexpr char kQuestion[] = "\n\nThe secret ingredient of the soup at the Blue Heron is";

// About 1,900 tokens with the needle a third of the way in.
std::string Haystack() {
  const std::string sentences[] = {
      " The ferry leaves at seven and comes back at nine, unless the fog is thick.",
      " In the market hall they sell apples, rope, lamp oil and very good bread.",
      " My aunt keeps three goats and a donkey that is older than the schoolhouse.",
      " When the bridge was built, the masons carved their marks into every stone.",
      " Nobody knows who planted the row of walnut trees along the canal.",
  };
  std::string text = "Notes from a village.";
  for (int i = 0; i < 120; ++i) {
    if (i == 40) text += kNeedle;
    text += sentences[(i * 7 + i / 5) % 5];
  }
  return text;
}

v1::GenerateRequest Ask(const std::string& policy, int32_t max_tokens = 12) {
  v1::GenerateRequest request = TextRequest(kQuestion, max_tokens);
  request.set_context_text(Haystack());
  request.mutable_sampling()->set_temperature(0);
  if (!policy.empty()) request.set_policy(policy);
  return request;
}

class Eviction : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<ServerProcess>(); }
  static void TearDownTestSuite() { server_.reset(); }
  static Read Run(const v1::GenerateRequest& request) {
    const auto stub = v1::Inference::NewStub(NewChannel(server_->address()));
    return ReadAll(*stub, request);
  }
  static std::unique_ptr<ServerProcess> server_;
};

std::unique_ptr<ServerProcess> Eviction::server_;

TEST_F(Eviction, IsOnWhereTheModelHasACurve) {
  const auto stub = v1::Inference::NewStub(NewChannel(server_->address()));
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(stub->GetModel(&context, v1::GetModelRequest(), &model).ok());
  EXPECT_EQ(model.default_policy(), "lukv+expected_attention@0.8");
  EXPECT_THAT(std::vector<std::string>(model.budget_curves().begin(), model.budget_curves().end()),
              testing::UnorderedElementsAre("expected_attention", "keydiff", "snapkv"));

  const Read full = Run(Ask("full"));
  ASSERT_TRUE(full.status.ok()) << full.status.error_message();
  EXPECT_THAT(full.Text(), HasSubstr("roasted fennel"));
  EXPECT_EQ(full.messages.back().usage().context_tokens(), 0);

  // Four fifths of the cache gone, and the answer is still there.
  const Read lukv = Run(Ask(""));
  ASSERT_TRUE(lukv.status.ok()) << lukv.status.error_message();
  EXPECT_THAT(lukv.Text(), HasSubstr("roasted fennel"));
  const v1::Usage& usage = lukv.messages.back().usage();
  EXPECT_EQ(usage.policy(), "lukv+expected_attention@0.8");
  EXPECT_GT(usage.context_tokens(), 1500);
  EXPECT_EQ(usage.kept_size(), 30);
  EXPECT_LT(usage.kv_bytes_resident(), full.messages.back().usage().kv_bytes_resident() * 3 / 10);
  EXPECT_EQ(usage.kv_bytes_freed(), usage.kv_bytes_full() - usage.kv_bytes_resident());
  EXPECT_GT(usage.eviction_seconds(), 0);
  EXPECT_LT(usage.eviction_seconds(), usage.prefill_seconds());
}

// Through the whole path, int8 activations and bf16 cache: ratio 0 is the full cache, to the token.
TEST_F(Eviction, ARatioOfZeroIsTheFullCache) {
  const std::vector<int32_t> full = Run(Ask("full", 40)).Tokens();
  for (const char* policy : {"lukv+expected_attention@0", "uniform+snapkv@0", "adakv+keydiff@100000tokens"}) {
    EXPECT_EQ(Run(Ask(policy, 40)).Tokens(), full) << policy;
  }
}

TEST_F(Eviction, APromptWithoutAContextKeepsItsTail) {
  v1::GenerateRequest request = TextRequest(Haystack() + kQuestion, 8);
  request.mutable_sampling()->set_temperature(0);
  const v1::Usage by_default = Run(request).messages.back().usage();
  EXPECT_EQ(by_default.prompt_tokens() - by_default.context_tokens(), 128);
  request.set_tail(40);
  const v1::Usage usage = Run(request).messages.back().usage();
  EXPECT_EQ(usage.prompt_tokens() - usage.context_tokens(), 40);
  // Shorter than what is worth evicting.
  v1::GenerateRequest brief = TextRequest("The capital of France is", 4);
  EXPECT_EQ(Run(brief).messages.back().usage().context_tokens(), 0);
}

// The same seeded requests alone and all at once, each with a policy of its own.
TEST_F(Eviction, NeighboursChangeNothing) {
  const char* policies[] = {"full", "lukv+expected_attention@0.8", "adakv+snapkv@0.5", "uniform+keydiff@200tokens"};
  std::vector<v1::GenerateRequest> requests;
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < 4; ++i) {
    v1::GenerateRequest request = Ask(policies[i], 24);
    request.mutable_sampling()->set_temperature(0.8f);
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    request.set_text(std::string(kQuestion).substr(0, static_cast<size_t>(20 + 9 * i)));
    requests.push_back(request);
    alone.push_back(Run(request).Tokens());
  }
  std::vector<std::vector<int32_t>> together(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { together[i] = Run(requests[i]).Tokens(); });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(together, alone);
}

TEST_F(Eviction, WhatCannotBeHonouredIsRefused) {
  for (const char* policy : {"lukv+knorm@0.8", "lukv+expected_attention@0.8:sink=9", "h2o+snapkv@0.8"}) {
    const Read refused = Run(Ask(policy));
    EXPECT_EQ(refused.status.error_code(), grpc::INVALID_ARGUMENT) << policy;
    EXPECT_EQ(ViolatedFields(refused.status), std::vector<std::string>{"policy"});
  }
}

TEST_F(Eviction, ShowsInTheMetrics) {
  ASSERT_TRUE(Run(Ask("uniform+keydiff@0.8")).status.ok());
  EXPECT_GE(server_->Metric("lukv_request_kv_freed_bytes_count"), 1);
  EXPECT_GT(server_->Metric("lukv_request_kv_freed_bytes_sum"), 20 << 20);
  EXPECT_GT(server_->Metric("lukv_request_eviction_seconds_sum"), 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (server_->Metric("lukv_kv_pages_used") != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(server_->Metric("lukv_kv_pages_used"), 0);
}

TEST_F(Eviction, TheClientAsksAndShowsWhatWasKept) {
  const std::string file = testing::TempDir() + "/lukv-e2e-context.txt";
  std::ofstream(file) << Haystack();
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"--server",       server_->address(),
                                          "--context-file", file,
                                          "--prompt",       kQuestion,
                                          "--temperature",  "0",
                                          "--max-tokens",   "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto process = std::make_unique<Process>("lukv-client", arguments);
    process->Wait();
    return process;
  };
  const auto client = run({"--policy", "lukv+snapkv@0.5"});
  EXPECT_EQ(client->Wait(), 0) << client->Stderr();
  EXPECT_THAT(client->Stderr(), HasSubstr("lukv+snapkv@0.5: of "));
  EXPECT_THAT(client->Stderr(), HasSubstr("MiB freed"));
  const auto json = run({"--json"});
  EXPECT_THAT(json->Stdout(), HasSubstr("\"policy\":\"lukv+expected_attention@0.8\""));
  EXPECT_THAT(json->Stdout(), HasSubstr("\"kept\":[{\"min\":"));
  const auto refused = run({"--policy", "lukv+knorm@0.8"});
  EXPECT_EQ(refused->Wait(), 1);
  EXPECT_THAT(refused->Stderr(), HasSubstr("no budget curve for knorm"));
  std::filesystem::remove(file);
}

// What the server says and does at start.
TEST(EvictionAtStart, AnExplicitPolicyIsHonouredOrTheServerDoesNotStart) {
  const auto fails = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--model",     DemoModelPath(),    "--listen",
                                          "127.0.0.1:0", "--metrics-listen", ""};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Process server("lukv-server", arguments);
    EXPECT_EQ(server.Wait(), 1);
    return server.Stderr();
  };
  EXPECT_THAT(fails({"--eviction", "lukv+knorm@0.8"}), HasSubstr("no budget curve for knorm"));
  EXPECT_THAT(fails({"--curves", "/does/not/exist"}), HasSubstr("/does/not/exist"));
}

TEST(EvictionAtStart, WithoutACurveItSaysSoAndServesInFull) {
  const std::string empty = testing::TempDir() + "/lukv-e2e-no-curves";
  std::filesystem::create_directories(empty);
  ServerProcess server({"--curves", empty});
  EXPECT_THAT(server.process().Stderr(), HasSubstr("eviction is off: there is no budget curve"));
  EXPECT_THAT(server.process().Stderr(), HasSubstr("lukv-profile --model"));
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  const Read read = ReadAll(*stub, Ask("", 4));
  EXPECT_TRUE(read.status.ok()) << read.status.error_message();
  EXPECT_EQ(read.messages.back().usage().policy(), "full");
  EXPECT_EQ(ReadAll(*stub, Ask("uniform+snapkv@0.8", 4)).messages.back().usage().kept_size(), 30);
}

}  // namespace
}  // namespace lukv
