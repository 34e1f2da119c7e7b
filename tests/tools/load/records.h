// Runs as they might have gone, for tests.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/load/generator.h"
#include "tools/load/record.h"

namespace lukv {

// Sent at `due` and ended OK with its last message, one token in each.
inline RequestRecord OkRecord(int64_t index, double due, std::vector<double> messages) {
  const auto tokens = static_cast<int32_t>(messages.size());
  return {.index = index,
          .prompt_tokens = 100,
          .asked_output = tokens,
          .due = due,
          .sent = due,
          .messages = messages,
          .ended = messages.back(),
          .tokens = tokens,
          .ending = Ending::kOk,
          .answered = true,
          .reason = "OK",
          .reported_tokens = tokens};
}

inline RequestRecord EndedRecord(int64_t index, Ending ending, bool answered, const std::string& reason,
                                 int32_t tokens = 0) {
  return {.index = index, .tokens = tokens, .ending = ending, .answered = answered, .reason = reason};
}

inline LoadRun RunOf(std::vector<RequestRecord> records, double seconds) {
  LoadRun run;
  run.sent = static_cast<int64_t>(records.size());
  run.records = std::move(records);
  run.seconds = seconds;
  return run;
}

}  // namespace lukv
