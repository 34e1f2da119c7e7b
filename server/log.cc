#include "server/log.h"

#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lukv {
namespace {

// Written by InitLog alone.
std::atomic<LogFormat> log_format = LogFormat::kText;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

// What is no UTF-8 (a path may be) is replaced.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void Log(spdlog::level::level_enum level, std::string_view message) {
  if (!spdlog::should_log(level)) return;
  if (log_format == LogFormat::kJson) {
    spdlog::log(level, "\"message\":{}", Dump(std::string(message)));
  } else {
    spdlog::log(level, "{}", message);
  }
}

std::string Text(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(duration, absl::Microseconds(10)));
}

}  // namespace

void InitLog(LogLevel level, LogFormat format) {
  auto logger = std::make_shared<spdlog::logger>("lukv", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern(format == LogFormat::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                                 : "%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
  logger->set_level(ToSpdlog(level));
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
  log_format = format;
  // gRPC reports what every caller already learns from a status (a port in use, a client gone) as errors in several
  // lines of its own format.
  gpr_set_log_function([](gpr_log_func_args* args) {
    LogDebug(absl::StrCat("grpc: ", args->message, " (", args->file, ":", args->line, ")"));
  });
}

void LogDebug(std::string_view message) { Log(spdlog::level::debug, message); }
void LogInfo(std::string_view message) { Log(spdlog::level::info, message); }
void LogWarning(std::string_view message) { Log(spdlog::level::warn, message); }
void LogError(std::string_view message) { Log(spdlog::level::err, message); }

void LogRequest(const RequestRecord& record) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  if (log_format == LogFormat::kJson) {
    const std::string object = RequestJson(record);
    spdlog::info("{}", std::string_view(object).substr(1, object.size() - 2));  // The pattern has the braces.
  } else {
    spdlog::info("{}", RequestText(record));
  }
}

std::string RequestText(const RequestRecord& record) {
  std::string text = absl::StrCat("request ", record.id, ": ", record.code);
  if (!record.reason.empty()) absl::StrAppend(&text, ": ", record.reason);
  absl::StrAppend(&text, "; ", record.prompt_tokens, " prompt");
  if (record.cached_tokens > 0) absl::StrAppend(&text, " (", record.cached_tokens, " cached)");
  absl::StrAppend(&text, " + ", record.generated_tokens, " generated tokens; queue ", Text(record.queue),
                  ", first token ", Text(record.first_token), ", total ", Text(record.total));
  if (record.preemptions > 0) absl::StrAppend(&text, "; preempted ", record.preemptions, " times");
  if (!record.tenant.empty()) absl::StrAppend(&text, "; tenant ", record.tenant);
  if (!record.traceparent.empty()) absl::StrAppend(&text, "; traceparent ", record.traceparent);
  return text;
}

std::string RequestJson(const RequestRecord& record) {
  nlohmann::ordered_json json = {{"message", "request"}, {"request_id", record.id}};
  if (!record.traceparent.empty()) {
    const std::vector<std::string> parts = absl::StrSplit(record.traceparent, '-');
    json["traceparent"] = record.traceparent;
    json["trace_id"] = parts.at(1);
  }
  if (!record.tenant.empty()) json["tenant"] = record.tenant;
  json["policy"] = record.policy;
  json["status"] = record.code;
  if (!record.reason.empty()) json["reason"] = record.reason;
  json["prompt_tokens"] = record.prompt_tokens;
  json["cached_tokens"] = record.cached_tokens;
  json["generated_tokens"] = record.generated_tokens;
  json["preemptions"] = record.preemptions;
  json["queue_seconds"] = absl::ToDoubleSeconds(record.queue);
  json["first_token_seconds"] = absl::ToDoubleSeconds(record.first_token);
  json["total_seconds"] = absl::ToDoubleSeconds(record.total);
  return Dump(json);
}

}  // namespace lukv
