#include "engine/engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/engine_loop.h"

namespace lukv {

absl::Status EngineOptions::Validate() const {
  const auto positive = [](const char* name, int64_t value) {
    return value > 0 ? absl::OkStatus()
                     : absl::InvalidArgumentError(absl::StrCat(name, " must be positive, is ", value));
  };
  if (kv_memory_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("kv memory must be >= 0, is ", kv_memory_bytes));
  }
  if (!(memory_utilization > 0 && memory_utilization <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory utilization must be above 0 and at most 1, is ", memory_utilization));
  }
  LUKV_RETURN_IF_ERROR(positive("page tokens", page_tokens));
  LUKV_RETURN_IF_ERROR(positive("max sequences", max_sequences));
  LUKV_RETURN_IF_ERROR(positive("max queued requests", max_queued_requests));
  LUKV_RETURN_IF_ERROR(positive("prefill chunk", prefill_chunk));
  LUKV_RETURN_IF_ERROR(positive("max queued tokens", max_queued_tokens));
  LUKV_RETURN_IF_ERROR(positive("generation reserve", generation_reserve));
  const auto not_negative = [](const char* name, absl::Duration value) {
    return value >= absl::ZeroDuration() ? absl::OkStatus()
                                         : absl::InvalidArgumentError(absl::StrCat(name, " must not be negative, is ",
                                                                                   absl::FormatDuration(value)));
  };
  LUKV_RETURN_IF_ERROR(not_negative("queue timeout", queue_timeout));
  LUKV_RETURN_IF_ERROR(not_negative("priority ageing", priority_ageing));
  LUKV_RETURN_IF_ERROR(not_negative("step time", max_step));
  LUKV_RETURN_IF_ERROR(not_negative("slow client timeout", slow_client_timeout));
  if (!(max_pinned_contexts >= 0 && max_pinned_contexts <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the share of pinned contexts must be in [0, 1], is ", max_pinned_contexts));
  }
  if (max_context < 0) return absl::InvalidArgumentError(absl::StrCat("max context must be >= 0, is ", max_context));
  if (min_evicted_context < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the shortest evicted context must be at least 1 token, is ", min_evicted_context));
  }
  if (page_tokens > 4096) return absl::InvalidArgumentError("page tokens must be at most 4096");
  if (kv_dtype != DType::kBF16 && kv_dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV dtype must be bf16 or f32, is ", std::string(Traits(kv_dtype).name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const std::string& model_path, std::unique_ptr<Backend> backend,
                                                       const Tokenizer& tokenizer, const EngineOptions& options) {
  LUKV_ASSIGN_OR_RETURN(EngineParts parts, MakeEngineParts(model_path, std::move(backend), options));
  return std::make_unique<EngineLoop>(std::move(parts), tokenizer.end_tokens(), options);
}

}  // namespace lukv
