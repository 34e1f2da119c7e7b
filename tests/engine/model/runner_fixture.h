// A model on the CPU backend with its runner, for tests that drive the forward directly.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "tests/engine/test_backend.h"

namespace lukv {

struct TestRunnerOptions {
  CpuCompute compute = CpuCompute::kF32;
  DType kv_dtype = DType::kF32;
  int32_t page_tokens = 64;
  int32_t prefill_chunk = 512;
  int32_t n_slots = 1;
  int32_t max_context = 128;
  int threads = 2;
  std::string device;  // "": MakeTestBackend's.
  DType cuda_activations = DType::kF32;
};

// Ends the test program when something cannot be made.
class TestRunner {
 public:
  TestRunner(const std::string& model_path, const TestRunnerOptions& options);

  ModelRunner& runner() { return *runner_; }
  int32_t vocabulary() const { return model_->config.vocabulary; }

  // ModelRunner::OpenSlot
  void Open(const PrefillTarget& target, size_t context, size_t question, size_t room);
  // Which positions of the context a head of `evicted` holds, ascending: its entries are looked up among those of
  // `full`, which holds all of the same context.
  std::vector<size_t> KeptPositions(Slot evicted, Slot full, int32_t layer, int32_t head);
  // Runs one prompt whose slots are open: the logits it asked for, [tokens, vocabulary].
  std::vector<float> Prefill(const PrefillPrompt& prompt);
  // Logits of all positions, [tokens, vocabulary].
  std::vector<float> PrefillLogits(std::span<const TokenId> ids);
  // Prefills ids[0, split), then feeds the rest one by one: logits of positions [split - 1, end).
  std::vector<float> DecodeLogits(std::span<const TokenId> ids, size_t split);
  // One decode step of rows whose slots are extended here.
  std::vector<float> Step(std::span<const DecodeRow> rows);
  std::vector<TokenId> Greedy(std::span<const TokenId> prompt, int32_t tokens);

 private:
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ModelRunner> runner_;
};

}  // namespace lukv
