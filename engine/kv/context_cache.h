// Contexts whose compressed pages are kept for later requests, and ends of conversations.
#pragma once

#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// What a kept context is found by: only a request of the same tenant with exactly these tokens and this policy gets it.
struct ContextKey {
  std::string tenant;
  std::string policy;  // PolicyName; "full" where nothing was evicted.
  std::vector<TokenId> tokens;

  bool operator==(const ContextKey&) const = default;
};

}  // namespace lukv
