// One Generate call from flags to what is printed.
#pragma once

#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lukv/v1/inference.grpc.pb.h"
#include "tools/client/options.h"

namespace lukv {

// A whole answer, joined by sample.
struct Answer {
  struct Sample {
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<v1::TokenLogprob> logprobs;
    v1::Finish finish;
  };
  std::vector<Sample> samples;
  v1::Usage usage;
};

// Reads the files that the flags name. INVALID_ARGUMENT: a file cannot be read or is not what it should be.
absl::StatusOr<v1::GenerateRequest> MakeRequest(const ClientOptions& options);

// `on_text` gets the first sample's text as it comes.
grpc::Status Generate(v1::Inference::StubInterface& stub, grpc::ClientContext& context,
                      const v1::GenerateRequest& request, const std::function<void(std::string_view)>& on_text,
                      Answer& answer);

// The JSON object of --json. With several samples it has them in "samples", and the first one's fields as always.
std::string ToJson(const Answer& answer, bool with_logprobs);

// "prompt 12 tokens, generated 30, first token 0.12 s, 45.1 tokens/s, KV 1.2 of 1.2 MiB"
std::string Summary(const Answer& answer);

// The status in one line, and the other field violations in one line each.
std::string Describe(const grpc::Status& status);

}  // namespace lukv
