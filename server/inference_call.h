// A Generate call of lukv.v1.
#pragma once

#include <string_view>

#include "absl/base/thread_annotations.h"
#include "lukv/v1/inference.pb.h"
#include "server/generate_call.h"

namespace lukv {

// Whatever became ready since the last message goes into one.
class InferenceCall final : public GenerateReactor<v1::GenerateResponse> {
 public:
  using GenerateReactor::GenerateReactor;

 private:
  void WriteToken(const TokenEvent& event, std::string_view text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  void WriteSampleEnd(const SampleEnd& end, std::string_view rest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  absl::Status WriteEnd(const absl::Status& status, const Usage& usage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  v1::GenerateResponse& OpenMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::Delta& DeltaOf(int32_t sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillLogprob(const TokenLogprob& logprob, v1::TokenLogprob& out) const;
};

}  // namespace lukv
