// The two macros that every function returning absl::Status or absl::StatusOr uses to pass errors on.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define LUKV_CONCAT_INNER(a, b) a##b
#define LUKV_CONCAT(a, b) LUKV_CONCAT_INNER(a, b)

#define LUKV_RETURN_IF_ERROR(expr)                              \
  do {                                                          \
    if (absl::Status lukv_status = (expr); !lukv_status.ok()) { \
      return lukv_status;                                       \
    }                                                           \
  } while (false)

// LUKV_ASSIGN_OR_RETURN(auto x, MakeX()); `lhs` may declare a variable.
#define LUKV_ASSIGN_OR_RETURN(lhs, expr) LUKV_ASSIGN_OR_RETURN_IMPL(LUKV_CONCAT(lukv_or_, __LINE__), lhs, expr)
#define LUKV_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return std::move(tmp).status();   \
  lhs = *std::move(tmp)
