// The engine with a tiny real model on the CPU backend, and what tests do to it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/engine.h"
#include "tests/engine/test_backend.h"
#include "tests/oracle/golden_files.h"

namespace lukv {

inline constexpr TokenId kEnd = 7;

// The engine asks a tokenizer for its end tokens alone.
class EndTokens final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment>, bool) const override {
    return absl::UnimplementedError("not asked for");
  }
  std::string Piece(TokenId, bool) const override { return ""; }
  std::string Decode(std::span<const TokenId>, bool) const override { return ""; }
  int32_t vocabulary() const override { return 0; }
  TokenId bos() const override { return -1; }
  const std::vector<TokenId>& end_tokens() const override { return end_; }
  bool IsSpecial(TokenId) const override { return false; }
  bool adds_bos() const override { return false; }
  const std::string& chat_template() const override { return template_; }

 private:
  const std::vector<TokenId> end_{kEnd};
  const std::string template_;
};

inline std::unique_ptr<Engine> MakeEngine(EngineOptions options = {}, const std::string& model = "llama-group3") {
  options.kv_memory_bytes = std::min<int64_t>(options.kv_memory_bytes, int64_t{4} << 20);
  auto engine =
      Engine::Create(GoldenPath("models/tiny/" + model), MakeTestBackend({.threads = 1}), EndTokens(), options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

struct Result {
  std::map<int32_t, std::vector<TokenId>> tokens;  // By sample.
  std::map<int32_t, FinishEvent> finished;
  std::vector<TokenEvent> events;
  absl::Status status;
  Usage usage;
};

// Reads until the DoneEvent; ends the test program when none comes.
inline Result Collect(Outbox& outbox) {
  Result result;
  while (true) {
    const std::vector<Event> events = outbox.WaitAndTake(absl::Now() + absl::Seconds(60));
    if (events.empty()) {
      ADD_FAILURE() << "no event within a minute";
      std::abort();
    }
    for (const Event& event : events) {
      if (const auto* token = std::get_if<TokenEvent>(&event)) {
        EXPECT_FALSE(result.finished.contains(token->sample)) << "a token after the sample's end";
        result.tokens[token->sample].push_back(token->token);
        result.events.push_back(*token);
      } else if (const auto* finish = std::get_if<FinishEvent>(&event)) {
        EXPECT_TRUE(result.finished.emplace(finish->sample, *finish).second) << "a sample ended twice";
      } else {
        result.status = std::get<DoneEvent>(event).status;
        result.usage = std::get<DoneEvent>(event).usage;
        return result;
      }
    }
  }
}

inline ValidRequest Greedy(std::vector<TokenId> prompt, int32_t max_tokens) {
  ValidRequest request{.id = "test", .prompt = std::move(prompt), .max_tokens = max_tokens, .ignore_eos = true};
  request.sampling.temperature = 0;
  return request;
}

inline ValidRequest Sampled(std::vector<TokenId> prompt, int32_t max_tokens, uint64_t seed) {
  ValidRequest request = Greedy(std::move(prompt), max_tokens);
  request.sampling.temperature = 1;
  request.sampling.seed = seed;
  return request;
}

inline std::shared_ptr<Outbox> MakeOutbox(size_t capacity = 1024) {
  return std::make_shared<Outbox>(capacity, nullptr);
}

inline Result RunAlone(Engine& engine, ValidRequest request) {
  const auto outbox = MakeOutbox();
  engine.Submit(std::move(request), outbox);
  return Collect(*outbox);
}

// Waits, within a minute, for the stats to satisfy `condition`.
template <typename Condition>
bool Eventually(const Engine& engine, Condition condition) {
  for (int i = 0; i < 60000; ++i) {
    if (condition(engine.Stats())) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

inline bool NothingHeld(const EngineStats& stats) {
  return stats.running == 0 && stats.waiting == 0 && stats.pages_used == 0 && stats.kv_bytes_resident == 0;
}

}  // namespace lukv
