#include "server/load_model.h"

#include <utility>

#include "base/status_macros.h"

namespace lukv {

absl::StatusOr<ServedModel> LoadServedModel(const ServerConfig& config) {
  ServedModel model{.name = config.model.name,
                    .max_sequences = config.engine.max_sequences,
                    .page_tokens = config.engine.page_tokens};
  LUKV_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(config.model.path));
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeCpuBackend(config.backend.cpu));
  LUKV_ASSIGN_OR_RETURN(model.engine,
                        Engine::Create(config.model.path, std::move(backend), *model.tokenizer, config.engine));
  return model;
}

}  // namespace lukv
