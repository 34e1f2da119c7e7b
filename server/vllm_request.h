// Requests of vllm.grpc.engine -> what the engine takes.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/validate.h"
#include "vllm_engine.pb.h"

namespace lukv {

// UNIMPLEMENTED with the fields of the request that ask for what lukv does not do.
absl::Status CheckSupported(const vllm::grpc::engine::GenerateRequest& request);

// The request says the same in lukv.v1's words, and is checked there: the two protocols have the same limits.
// REQUIRES: CheckSupported is OK.
Validated<GenerateInput> ValidateVllmGenerate(const vllm::grpc::engine::GenerateRequest& request,
                                              const RequestLimits& limits, std::string fallback_id);

}  // namespace lukv
