// The server's log: one line an event, to stderr. Never prompts or answers: they belong to the users.
#pragma once

#include <string_view>

#include "server/config.h"

namespace lukv {

// Sets the level, and sends gRPC's own messages (at --log-level debug) the same way.
void InitLog(LogLevel level);

void LogDebug(std::string_view message);
void LogInfo(std::string_view message);
void LogWarning(std::string_view message);
void LogError(std::string_view message);

}  // namespace lukv
