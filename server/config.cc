#include "server/config.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/evict/policy.h"
#include "server/refuse_setting.h"

namespace lukv {
namespace {

// What the engine says of its own options names no flags; these are new enough to need none of it.
absl::Status CheckEngine(const EngineOptions& engine) {
  constexpr absl::Duration kForever = absl::Hours(24 * 365);
  LUKV_RETURN_IF_ERROR(CheckRange("max-queued-tokens", engine.max_queued_tokens, int64_t{1}, int64_t{1} << 40));
  // InfiniteDuration is how the flag's 0 arrives.
  if (engine.queue_timeout != absl::InfiniteDuration()) {
    LUKV_RETURN_IF_ERROR(CheckRange("queue-timeout", engine.queue_timeout, absl::Milliseconds(1), kForever));
  }
  LUKV_RETURN_IF_ERROR(CheckRange("priority-ageing", engine.priority_ageing, absl::Milliseconds(1), kForever));
  LUKV_RETURN_IF_ERROR(CheckRange("max-step-ms", absl::ToDoubleMilliseconds(engine.max_step), 0.0, 60'000.0));
  LUKV_RETURN_IF_ERROR(CheckRange("generation-reserve", engine.generation_reserve, 1, 1 << 24));
  LUKV_RETURN_IF_ERROR(CheckRange("slow-client-timeout", engine.slow_client_timeout, absl::Milliseconds(1), kForever));
  return CheckRange("max-pinned-contexts", engine.max_pinned_contexts, 0.0, 1.0);
}

}  // namespace

absl::Status ServerConfig::Validate() const {
  if (model.path.empty()) {
    return absl::InvalidArgumentError("--model is missing: give a GGUF file or a Hugging Face folder");
  }
  if (const absl::Status known = CheckDeviceName(device.device); !known.ok()) {
    return RefuseSetting("device", device.device, std::string(known.message()));
  }
  if (device.cpu.threads < 0 || device.cpu.threads > 1024) {
    return RefuseSetting("threads", absl::StrCat(device.cpu.threads), "allowed are 0 (one per core) to 1024");
  }
  LUKV_RETURN_IF_ERROR(network.Validate());
  if (eviction.policy != kAutoEviction) {
    const absl::StatusOr<Policy> policy = ParsePolicy(eviction.policy);
    if (!policy.ok()) return RefuseSetting("eviction", eviction.policy, std::string(policy.status().message()));
  }
  if (eviction.tail < 1) return RefuseSetting("tail", absl::StrCat(eviction.tail), "allowed is 1 or more");
  if (eviction.chat_tail < 0)
    return RefuseSetting("chat-tail", absl::StrCat(eviction.chat_tail), "allowed is 0 or more");
  LUKV_RETURN_IF_ERROR(CheckEngine(engine));
  return engine.Validate();
}

}  // namespace lukv
