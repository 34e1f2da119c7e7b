// The server's log: one line an event, to stderr, as text or as JSON. Never prompts or answers: they belong to the
// users.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "server/config.h"

namespace lukv {

// Sets level and form, and sends gRPC's own messages (at --log-level debug) the same way.
void InitLog(LogLevel level, LogFormat format);

void LogDebug(std::string_view message);
void LogInfo(std::string_view message);
void LogWarning(std::string_view message);
void LogError(std::string_view message);

// A request that is over.
struct RequestRecord {
  std::string id;
  std::string traceparent;  // "": the client sent none.
  std::string tenant;
  std::string policy;
  std::string code;    // "OK", "CANCELLED", ...
  std::string reason;  // The status's message; "" if OK.
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t generated_tokens = 0;
  int32_t preemptions = 0;
  absl::Duration queue;
  absl::Duration first_token;
  absl::Duration total;
};
void LogRequest(const RequestRecord& record);
// The record as a line of text, and as a JSON object.
std::string RequestText(const RequestRecord& record);
std::string RequestJson(const RequestRecord& record);

}  // namespace lukv
