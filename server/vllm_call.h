// A Generate call of vllm.grpc.engine.
#pragma once

#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/generate_call.h"
#include "vllm_engine.pb.h"

namespace lukv {

// A message is about one sample. How the samples ended is told when all have: only then is known what of the prompt
// was cached.
class VllmCall final : public GenerateReactor<vllm::grpc::engine::GenerateResponse> {
 public:
  // `stream`: tokens are sent as they come, else all of them at the end.
  VllmCall(const CallContext& context, bool stream) : GenerateReactor(context), stream_(stream) {}

 private:
  void WriteToken(const TokenEvent& event, std::string_view text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  void WriteSampleEnd(const SampleEnd& end, std::string_view rest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  absl::Status WriteEnd(const absl::Status& status, const Usage& usage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  vllm::grpc::engine::GenerateComplete& CompleteOf(int32_t sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  vllm::grpc::engine::GenerateStreamChunk& ChunkOf(int32_t sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool stream_;
  std::vector<vllm::grpc::engine::GenerateComplete> completes_ ABSL_GUARDED_BY(mutex_);  // By sample.
};

}  // namespace lukv
