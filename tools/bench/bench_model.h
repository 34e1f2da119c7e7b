// A model with all that runs it, on a backend whose ops can be timed.
#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/evict/eviction_plan.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "tools/bench/op_timer.h"

namespace lukv {

// What it must have room for: `batch` sequences of `entries` tokens.
struct BenchSize {
  int32_t batch = 1;
  int32_t entries = 0;
  int32_t prefill_chunk = 512;
  int32_t page_tokens = 64;
  DType kv_dtype = DType::kBF16;
};

class BenchModel {
 public:
  static absl::StatusOr<std::unique_ptr<BenchModel>> Make(std::unique_ptr<WeightSource> source,
                                                          std::unique_ptr<Backend> backend, const BenchSize& size,
                                                          uint64_t seed);

  // A prompt of random ids into a free slot, compressed by `plan` (null: not at all), with room for `room` tokens more.
  // Returns the part of the time that eviction took.
  absl::StatusOr<absl::Duration> Prefill(Slot slot, int32_t tokens, const EvictionPlan* plan, int32_t room);
  // A step of slots 0..batch-1, all in use, with random ids at `position`.
  absl::Status Decode(int32_t batch, int32_t position);
  void Release(int32_t batch);

  // What the timer has to know of a step of slots 0..batch-1 and of prefills under `plan` (null: not compressed).
  OpLengths Lengths(int32_t batch, const EvictionPlan* plan);

  const WeightSource& source() const { return *source_; }
  OpTimer& backend() { return *backend_; }
  ModelRunner& runner() { return *runner_; }
  const ModelConfig& config() const { return model_.config; }
  int64_t weight_bytes() const { return model_.weight_bytes; }
  const KvGeometry& geometry() { return runner_->table().geometry(); }

 private:
  BenchModel() = default;
  TokenId RandomId() { return static_cast<TokenId>(random_() % static_cast<uint64_t>(config().vocabulary)); }

  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<OpTimer> backend_;
  Model model_;
  std::unique_ptr<ModelRunner> runner_;
  std::mt19937_64 random_;
};

}  // namespace lukv
