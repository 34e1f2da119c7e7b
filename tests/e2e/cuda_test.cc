// The server on a CUDA device: the emulated one, or the real one, as LUKV_CUDA_LIBRARY says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/e2e/process.h"
#include "tests/server/test_client.h"

namespace lukv {
namespace {

using testing::HasSubstr;

TEST(Cuda, ServesTheDemoModel) {
  ServerProcess server({"--device", "cuda", "--eviction", "lukv+expected_attention@0.8", "--min-evicted-context", "16",
                        "--tail", "4", "--max-context", "128"});
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  v1::GenerateRequest request =
      TextRequest("Once upon a time, in a small village by the sea, there lived a man who had never seen the sea", 5);
  request.mutable_sampling()->set_temperature(0);
  request.set_ignore_eos(true);
  const Read first = ReadAll(*stub, request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_EQ(first.Tokens().size(), 5u);
  EXPECT_FALSE(first.Text().empty());
  // Recorded steps are played back by now.
  const Read again = ReadAll(*stub, request);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.Tokens(), first.Tokens());
  EXPECT_EQ(server.Metric("lukv_kv_pages_used"), 0);

  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 0);
  // The plan of the device's memory, as a table.
  for (const char* part : {"memory on cuda:0", "- weights", "- workspace", "- KV pages", "left over"}) {
    EXPECT_THAT(server.process().Stderr(), HasSubstr(part));
  }
}

TEST(Cuda, ADeviceThatIsNotThereIsRefused) {
  Process server("lukv-server",
                 {"--model", DemoModelPath(), "--device", "cuda:7", "--listen", "127.0.0.1:0", "--metrics-listen", ""});
  EXPECT_EQ(server.Wait(), 1);
  EXPECT_THAT(server.Stderr(), HasSubstr("no CUDA device 7"));
}

}  // namespace
}  // namespace lukv
