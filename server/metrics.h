// What the server tells Prometheus. Names and help are at the top of metrics.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace lukv {

// How a sample or a request ended.
enum class Outcome : uint8_t { kStop, kLength, kAbort, kError };

// Any thread may call any method.
class Metrics {
 public:
  explicit Metrics(std::string model_name);
  ~Metrics();

  // Serves http://address/metrics, and the live requests at /debug/requests; the address with the port that was taken.
  // UNAVAILABLE: it cannot be used.
  absl::StatusOr<std::string> Listen(const std::string& address);

  // The engine that gauges and counters are read from at each scrape; nullptr: none (any more). It must live until
  // the next call.
  void SetEngine(const Engine* engine, int32_t page_tokens);

  void OnFirstToken(absl::Duration since_arrival);
  // `tokens` tokens of one sample came `since_last` after the one before.
  void OnTokens(absl::Duration since_last, int32_t tokens);
  void OnSampleEnd(Outcome outcome, int32_t samples);
  // A request whose samples all finished. `policy`: the name of its eviction policy.
  void OnRequestEnd(const Usage& usage, const std::string& policy, absl::Duration since_arrival);
  void OnRefused(std::string_view reason);

  // The page as text, for tests.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lukv
