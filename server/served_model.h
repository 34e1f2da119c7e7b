// What a server serves once it is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/evict/policy.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

struct ServedModel {
  std::string name;  // What clients and metrics see.
  std::string path;  // Where it was loaded from.
  // server/tokenizer_zip.h; or why there is none.
  absl::StatusOr<std::string> tokenizer_zip = absl::UnimplementedError("the model has no tokenizer files");
  int32_t max_sequences = 0;
  int32_t page_tokens = 0;
  Policy default_policy;  // Of requests that name none.
  int32_t tail = 0;       // RequestLimits
  int32_t chat_tail = 0;
  // The engine reads the tokenizer and goes first.
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
};

}  // namespace lukv
