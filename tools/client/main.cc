// lukv-client: one request to a lukv server, its health, a view of what it does, or a line for its file of keys.
#include <grpc/support/log.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "base/mutex.h"
#include "base/signal_thread.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tools/client/connection.h"
#include "tools/client/generate.h"
#include "tools/client/hash_key.h"
#include "tools/client/options.h"
#include "tools/client/top.h"

namespace lukv {
namespace {

constexpr int kInterrupted = 130;

// Ctrl-C cancels the call, so that the server frees its memory at once; a second one does not wait for that.
class Interruption {
 public:
  explicit Interruption(grpc::ClientContext& context) : thread_([this, &context](int) { OnSignal(context); }) {}

  bool happened() const {
    MutexLock lock(&mutex_);
    return happened_;
  }

 private:
  void OnSignal(grpc::ClientContext& context) {
    MutexLock lock(&mutex_);
    if (happened_) std::_Exit(kInterrupted);
    happened_ = true;
    context.TryCancel();
  }

  mutable Mutex mutex_;
  bool happened_ ABSL_GUARDED_BY(mutex_) = false;
  SignalThread thread_;
};

void SetTimeout(const ClientOptions& options, double fallback_seconds, grpc::ClientContext& context) {
  const double seconds = options.timeout_seconds.value_or(fallback_seconds);
  if (seconds <= 0) return;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6)));
}

int Fail(const std::string& reason) {
  std::fprintf(stderr, "lukv-client: %s\n", reason.c_str());
  return 1;
}

int WrongUse(const absl::Status& status) {
  Fail(std::string(status.message()));
  return 2;
}

int CheckHealth(const ClientOptions& options, const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  SetTimeout(options, 5, context);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(options.health_service);
  grpc::health::v1::HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  if (const grpc::Status status = stub->Check(&context, request, &response); !status.ok()) {
    return Fail(Describe(status));
  }
  std::puts(grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response.status()).c_str());
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING ? 0 : 1;
}

void PrintTexts(const Answer& answer) {
  for (size_t i = 0; i < answer.samples.size(); ++i) {
    if (answer.samples.size() > 1) std::printf("--- sample %zu\n", i);
    const std::string& text = answer.samples[i].text;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::putchar('\n');
  }
}

int RunGenerate(const ClientOptions& options, const std::shared_ptr<grpc::Channel>& channel,
                grpc::ClientContext& context, const Interruption& interruption) {
  absl::StatusOr<v1::GenerateRequest> request = MakeRequest(options);
  if (!request.ok()) {
    return WrongUse(request.status());
  }
  SetTimeout(options, 0, context);
  const bool stream = options.stream && !options.json;
  const auto on_text = [stream](std::string_view text) {
    if (!stream) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  Answer answer;
  const auto stub = v1::Inference::NewStub(channel);
  const grpc::Status status = Generate(*stub, context, *request, on_text, answer);
  if (stream) std::putchar('\n');
  if (interruption.happened()) return kInterrupted;
  if (!status.ok()) return Fail(Describe(status));
  if (options.json) {
    std::puts(ToJson(answer, options.logprobs.has_value()).c_str());
  } else if (!stream) {
    PrintTexts(answer);
  }
  std::fflush(stdout);
  if (!options.json && !options.quiet) std::fprintf(stderr, "%s\n", Summary(answer).c_str());
  return 0;
}

int ShowTop(const TopOptions& options) {
  const absl::Status status = RunTop(options);
  return status.ok() ? 0 : Fail(std::string(status.message()));
}

int HashKey(const std::string& name) {
  const std::string input(std::istreambuf_iterator<char>(std::cin), {});
  const absl::StatusOr<std::string> line = KeyLine(name, input);
  if (!line.ok()) return WrongUse(line.status());
  std::puts(line->c_str());
  return 0;
}

int Run(const ClientOptions& options) {
  if (!options.hash_key_name.empty()) return HashKey(options.hash_key_name);
  if (options.top) return ShowTop(options.top_options);
  // The status says it all; gRPC's own lines would only repeat it.
  gpr_set_log_function([](gpr_log_func_args*) {});
  grpc::ClientContext context;
  Interruption interruption(context);  // Before gRPC starts threads.
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(options.connection);
  if (!channel.ok()) return WrongUse(channel.status());
  if (options.health) return CheckHealth(options, *channel);
  const absl::StatusOr<std::string> key = ReadKey(options.connection);
  if (!key.ok()) return WrongUse(key.status());
  BringKey(*key, context);
  return RunGenerate(options, *channel, context, interruption);
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  const auto parsed = lukv::ParseClientOptions(argc, argv);
  if (const auto* exit = std::get_if<lukv::ExitRequest>(&parsed)) return lukv::Exit(*exit);
  return lukv::Run(std::get<lukv::ClientOptions>(parsed));
}
