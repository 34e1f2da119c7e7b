// What a request's KV cache is compressed by, and its one name: "full" or ALLOCATOR+SCORER@BUDGET[:OPTION=VALUE,...],
// e.g. "lukv+expected_attention@0.8" or "uniform+snapkv@0.5:sink=4,window=32". Server default, requests, client, bench,
// eval and metrics all use this parser and this printer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/evict_args.h"

namespace lukv {

// Gives every cached entry of a kv head its worth.
enum class Scorer : uint8_t {
  kExpectedAttention,  // "expected_attention"
  kSnapKv,             // "snapkv"
  kKeyDiff,            // "keydiff"
  kKeyNorm,            // "knorm"
  kStreamingLlm,       // "streaming_llm": the first and the most recent (arXiv 2309.17453)
  kRandom,             // "random"
};

// A scorer with its settings; members that the scorer does not use keep their defaults.
struct ScorerSettings {
  Scorer scorer = Scorer::kExpectedAttention;
  float epsilon = 0.02f;            // ExpectedAttention; option "epsilon"
  int32_t future = 512;             // ExpectedAttention: positions ahead that are averaged over; "future"
  int32_t queries = 32;             // SnapKV: the last queries that look back; "queries"
  int32_t kernel = 7;               // SnapKV, odd; "kernel"
  Pooling pooling = Pooling::kMax;  // SnapKV; "pool" = max | average
  uint64_t seed = 0;                // Random; "seed"

  bool operator==(const ScorerSettings&) const = default;
};

// Says how many entries each (layer, kv head) keeps.
enum class Allocator : uint8_t {
  kUniform,    // "uniform": every head the same
  kPyramidKv,  // "pyramidkv": linear from wide low layers to narrow high ones (arXiv 2406.02069)
  kAdaKv,      // "adakv": inside a layer by all heads' scores together (arXiv 2407.11550)
  kLuKv,       // "lukv": by a budget curve profiled offline (arXiv 2602.08585)
};

// How much is kept, in one of three ways. The same for every way: more than the context has means "keep all".
enum class BudgetKind : uint8_t {
  kRatio,   // "0.8": the part of all entries that is removed, in [0, 1)
  kTokens,  // "512tokens": entries per kv head on average
  kBytes,   // "8388608bytes": of the entries kept of the context, all layers and kv heads
};

struct Policy {
  bool full = true;  // Nothing is evicted; all else is without meaning then.
  Allocator allocator = Allocator::kLuKv;
  ScorerSettings scorer;
  BudgetKind budget_kind = BudgetKind::kRatio;
  double ratio = 0.8;
  int64_t amount = 0;   // Tokens or bytes.
  int32_t sink = 4;     // First entries that count as better than any score; "sink"
  int32_t window = 1;   // Last ones; "window". SnapKV's default is 32.
  bool floors = false;  // Every head keeps sink + window at least; "floors" = 0 | 1
  float alpha = 0.2f;   // AdaKV: part of its mean budget that each head is sure of, [0, 1]; "alpha"
  int32_t beta = 20;    // PyramidKV: steepness, >= 1; "beta"

  bool operator==(const Policy&) const = default;
};

// INVALID_ARGUMENT says which part is wrong and what is allowed.
absl::StatusOr<Policy> ParsePolicy(std::string_view name);

// Options at their defaults are left out: ParsePolicy(PolicyName(p)) == p, and equal policies have equal names.
std::string PolicyName(const Policy& policy);

// INVALID_ARGUMENT with the member that is out of range.
absl::Status ValidatePolicy(const Policy& policy);

const char* ScorerName(Scorer scorer);
const char* AllocatorName(Allocator allocator);
// The default policy of a scorer: its published sink and window, ratio 0.8, allocator LU-KV.
Policy DefaultPolicy(Scorer scorer);
// A scorer with its protection as a policy spells it: "snapkv:window=32,..."; what a budget curve is made for.
std::string ScorerLabel(const ScorerSettings& scorer, int32_t sink, int32_t window);

}  // namespace lukv
