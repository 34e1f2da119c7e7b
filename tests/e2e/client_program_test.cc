// lukv-client as a user or a script runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "tests/e2e/process.h"

namespace lukv {
namespace {

using nlohmann::json;
using testing::HasSubstr;

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

class ClientProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<ServerProcess>(); }
  static void TearDownTestSuite() { server_.reset(); }

  static Result Run(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"--server", server_->address()});
    Process client("lukv-client", arguments, input);
    const int code = client.Wait();
    return {code, client.Stdout(), client.Stderr()};
  }

  static std::unique_ptr<ServerProcess> server_;
};

std::unique_ptr<ServerProcess> ClientProgram::server_;

const std::vector<std::string> kQuestion = {
    "--prompt", "The capital of France is", "--temperature", "0", "--max-tokens", "12"};

std::vector<std::string> Question(const std::vector<std::string>& more) {
  std::vector<std::string> all = kQuestion;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST_F(ClientProgram, PrintsTheAnswerAndASummary) {
  const Result whole = Run(kQuestion);
  EXPECT_EQ(whole.code, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr("Paris"));
  EXPECT_THAT(whole.err,
              testing::AllOf(HasSubstr("prompt 5 tokens"), HasSubstr("generated 12"), HasSubstr("tokens/s")));
  const Result streamed = Run(Question({"--stream", "--quiet"}));
  EXPECT_EQ(streamed.code, 0);
  EXPECT_EQ(streamed.out, whole.out);
  EXPECT_EQ(streamed.err, "");
}

TEST_F(ClientProgram, PrintsJson) {
  const Result result = Run(Question({"--json", "--stop", "\n"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const json answer = json::parse(result.out);
  std::vector<std::string> keys;
  for (const auto& [key, value] : answer.items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::UnorderedElementsAre("text", "token_ids", "finish_reason", "usage", "timings"));
  EXPECT_EQ(answer["text"], " Paris.");
  EXPECT_EQ(answer["finish_reason"], "stop");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(answer["usage"]["generated_tokens"], answer["token_ids"].size());
  for (const char* key : {"kv_bytes_full", "kv_bytes_resident"}) EXPECT_GT(answer["usage"][key], 0) << key;
  for (const char* key : {"queue_s", "prefill_s", "ttft_s", "decode_s"}) {
    EXPECT_TRUE(answer["timings"][key].is_number()) << key;
  }
}

TEST_F(ClientProgram, PrintsSamplesAndLogprobsAsJson) {
  const Result result = Run(Question({"--json", "--n", "2", "--logprobs", "1"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const json answer = json::parse(result.out);
  ASSERT_EQ(answer["samples"].size(), 2u);
  EXPECT_EQ(answer["samples"][0]["text"], answer["text"]);
  EXPECT_EQ(answer["logprobs"].size(), answer["token_ids"].size());
  EXPECT_EQ(answer["logprobs"][0]["alternatives"].size(), 1u);
}

TEST_F(ClientProgram, TakesPromptsFromEverywhere) {
  const std::string text = "The capital of France is";
  const std::string expected = Run(kQuestion).out;
  const std::vector<std::string> rest = {"--temperature", "0", "--max-tokens", "12"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    return arguments;
  };
  EXPECT_EQ(Run(with({"--prompt-file", "-"}), text).out, expected);
  const std::string path = testing::TempDir() + "/lukv-prompt-" + std::to_string(getpid());
  std::ofstream(path) << text;
  EXPECT_EQ(Run(with({"--prompt-file", path})).out, expected);
  // As tokenised by the server.
  std::ofstream(path) << "[504, 3575,\n282 4649 314]";
  EXPECT_EQ(Run(with({"--token-ids", path})).out, expected);
  std::remove(path.c_str());
  const Result chat = Run(with({"--chat", "Hi!", "--system", "Be brief."}));
  EXPECT_EQ(chat.code, 0) << chat.err;
  const std::string rendered =
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(Run(with({"--prompt", rendered, "--parse-special"})).out, chat.out);
}

TEST_F(ClientProgram, ReportsRefusals) {
  const Result result = Run(Question({"--top-p", "3", "--min-p", "2"}));
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err,
              testing::AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("sampling.top_p"), HasSubstr("sampling.min_p")));
  EXPECT_EQ(Run({"--prompt", "a", "--chat", "b"}).code, 2);
  EXPECT_EQ(Run({}).code, 2);
  EXPECT_EQ(Run({"--prompt-file", "/no/such/file"}).code, 2);
  EXPECT_EQ(Run({"--prompt-file", "-"}, "\xFF not UTF-8").code, 2);
}

TEST_F(ClientProgram, ATimeoutEndsTheCall) {
  const Result result =
      Run({"--prompt", "Once upon a time", "--max-tokens", "8000", "--ignore-eos", "--timeout", "0.3"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST_F(ClientProgram, CtrlCCancels) {
  Process client("lukv-client", {"--server", server_->address(), "--prompt", "Once upon a time", "--max-tokens", "8000",
                                 "--ignore-eos", "--stream"});
  while (client.Running() && client.Stdout().empty()) continue;
  client.Signal(SIGINT);
  EXPECT_EQ(client.Wait(), 130);
  while (server_->Metric("vllm:num_requests_running") != 0) continue;
}

TEST_F(ClientProgram, ShowsHealth) {
  const Result result = Run({"health"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "SERVING\n");
  EXPECT_EQ(Run({"health", "--service", "no.such.Service"}).code, 1);
}

TEST(ClientProgramAlone, SaysInOneLineThatNobodyListens) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--prompt", "x"}, std::vector<std::string>{"health"}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--server", "127.0.0.1:1"});
    Process client("lukv-client", all);
    EXPECT_EQ(client.Wait(), 1);
    const std::string error = client.Stderr();
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_THAT(error, testing::AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("127.0.0.1:1")));
  }
}

}  // namespace
}  // namespace lukv
