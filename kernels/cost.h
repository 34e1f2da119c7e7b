// What an op costs on any device, from its arguments alone: a floor for its time, and what its time is judged by.
#pragma once

#include <cstdint>

#include "kernels/args.h"
#include "kernels/evict_args.h"
#include "kernels/sample_args.h"

namespace lukv {

struct OpCost {
  // That must move between the device's memory and its cores at least once: inputs and outputs of the op, each once,
  // however often an implementation comes back to them. Page tables are left out.
  int64_t bytes = 0;
  // Two for a multiply and add of a matrix product; one for each other operation on an element, exponentials included.
  // Softmax inside attention and pooling are left out, as usual.
  int64_t flops = 0;

  constexpr OpCost& operator+=(const OpCost& other) {
    bytes += other.bytes;
    flops += other.flops;
    return *this;
  }
  bool operator==(const OpCost&) const = default;
};

OpCost CostOf(const EmbedArgs& args);  // As if the table were of out's dtype.
OpCost CostOf(const RmsNormArgs& args);
OpCost CostOf(const LinearArgs& args);
OpCost CostOf(const RopeStageArgs& args);
OpCost CostOf(const PrefillAttentionArgs& args);
OpCost CostOf(const AppendArgs& args);
OpCost CostOf(const SiluMulArgs& args);
OpCost CostOf(const GatherRowsArgs& args);
OpCost CostOf(const ScatterArgs& args);
OpCost CostOf(const CopyPagesArgs& args);
OpCost CostOf(const SampleArgs& args);
OpCost CostOf(const QueryMomentsArgs& args);
OpCost CostOf(const ScoreExpectedAttentionArgs& args);
OpCost CostOf(const ScoreSnapKvArgs& args);
OpCost CostOf(const ScoreKeyDiffArgs& args);
OpCost CostOf(const ScoreKeyNormArgs& args);
OpCost CostOf(const AdaptiveBudgetsArgs& args);

// Lengths lie on the device. `entries`: of all heads of the layer and all sequences of the step together, as the table
// says them. REQUIRES: every sequence has the same number of rows (one, in a decode step).
OpCost CostOf(const PagedAttentionArgs& args, int64_t entries);
OpCost CostOf(const PagedAttentionWeightsArgs& args, int64_t entries);
// `entries`: kept by all heads of the layer together.
OpCost CostOf(const CompactArgs& args, int64_t entries);
OpCost CostOf(const SelectTopArgs& args, int64_t entries);

}  // namespace lukv
