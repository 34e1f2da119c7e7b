#include "server/load_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/log.h"
#include "server/tokenizer_zip.h"

namespace lukv {

namespace {

// The policy of requests that name none; one that was asked for and cannot be had is an error, not another policy.
absl::StatusOr<Policy> DefaultPolicyOf(const ServerConfig& config, const Engine& engine) {
  const bool automatic = config.eviction.policy == kAutoEviction;
  LUKV_ASSIGN_OR_RETURN(Policy policy, ParsePolicy(automatic ? kAutoPolicy : config.eviction.policy));
  const absl::Status honoured = engine.MakePlan(policy, 1).status();
  if (honoured.ok()) return policy;
  if (!automatic) {
    return absl::InvalidArgumentError(
        absl::StrCat("--eviction ", config.eviction.policy, ": ", std::string(honoured.message())));
  }
  LogWarning(absl::StrCat("eviction is off: there is no budget curve of this model (", engine.info().fingerprint,
                          ") for ", kAutoPolicy, "; make one with: lukv-profile --model ", config.model.path,
                          " --out DIR, then serve with --curves DIR"));
  return Policy();
}

}  // namespace

absl::StatusOr<ServedModel> LoadServedModel(const ServerConfig& config) {
  ServedModel model{.name = config.model.name,
                    .path = config.model.path,
                    .max_sequences = config.engine.max_sequences,
                    .page_tokens = config.engine.page_tokens};
  LUKV_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(config.model.path));
  std::string why_not_cuda;
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend(config.device, &why_not_cuda));
  LUKV_ASSIGN_OR_RETURN(model.engine,
                        Engine::Create(config.model.path, std::move(backend), *model.tokenizer, config.engine));
  // Not before: a model that cannot be served is to give one line, the reason.
  if (!why_not_cuda.empty()) LogInfo(absl::StrCat("computing on the CPU: ", why_not_cuda));
  LUKV_ASSIGN_OR_RETURN(model.default_policy, DefaultPolicyOf(config, *model.engine));
  model.tail = config.eviction.tail;
  model.chat_tail = config.eviction.chat_tail;
  model.tokenizer_zip = MakeTokenizerZip(config.model.path, model.engine->info(), *model.tokenizer);
  return model;
}

}  // namespace lukv
