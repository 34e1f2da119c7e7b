#pragma once

#include "absl/status/statusor.h"
#include "server/config.h"
#include "server/served_model.h"

namespace lukv {

// Tokenizer, backend and engine as the config says. The status says in one line what is wrong with the model.
absl::StatusOr<ServedModel> LoadServedModel(const ServerConfig& config);

}  // namespace lukv
