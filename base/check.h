// Invariants of the program itself. A failed check is a bug in lukv, never bad input: it prints the place and ends the
// process. Bad input is reported with absl::Status. (absl/log is not in the distribution's abseil.)
#pragma once

#include <cstdio>
#include <cstdlib>

#define LUKV_CHECK(condition)                                                            \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
