#include "engine/memory_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace lukv {
namespace {

constexpr int64_t kHostDefault = int64_t{2} << 30;

std::string MiB(int64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }

// "weights 93.0 MiB + buffers 12.0 MiB + ... = 250.0 MiB"
std::string Sum(const MemoryPlan& plan) {
  return absl::StrCat(absl::StrJoin(plan.parts(), " + ",
                                    [](std::string* out, const std::pair<const char*, int64_t>& part) {
                                      absl::StrAppend(out, part.first, " ", MiB(part.second));
                                    }),
                      " = ", MiB(plan.sum()));
}

}  // namespace

std::vector<std::pair<const char*, int64_t>> MemoryPlan::parts() const {
  return {{"weights", weights},
          {"activations and tables", buffers},
          {"workspace", workspace},
          {"staging of the longest prompt", staging},
          {"KV pages", pages}};
}

absl::StatusOr<MemoryPlan> PlanMemory(const MemoryRequest& request, const ModelConfig& config,
                                      const RunnerOptions& options) {
  const int64_t free = static_cast<int64_t>(request.before.free_bytes);
  MemoryPlan plan{
      .total = static_cast<int64_t>(request.before.total_bytes),
      .free = free,
      .usable = static_cast<int64_t>(static_cast<double>(free) * request.utilization),
      .weights = request.weight_bytes,
      .buffers = ModelRunner::BufferBytes(config, options, request.activations),
      .workspace = request.workspace_bytes,
      .staging = options.max_context * ModelRunner::PrefillBytesPerToken(config, options, request.activations)};
  const int64_t page_bytes = ModelRunner::PageBytes(config, options.kv_dtype, options.page_tokens);
  const int64_t heads = int64_t{config.n_layers} * config.n_kv_heads;
  const int64_t left = plan.usable - plan.sum();
  const int64_t automatic = request.before.host ? std::min(left, kHostDefault) : left;
  const bool asked_for = request.kv_memory_bytes > 0;
  plan.n_pages = std::clamp<int64_t>((asked_for ? request.kv_memory_bytes : automatic) / page_bytes, 0, INT32_MAX);
  if (asked_for && plan.n_pages < heads) {
    return absl::InvalidArgumentError(absl::StrCat("KV memory of ", request.kv_memory_bytes, " bytes is ", plan.n_pages,
                                                   " pages of ", page_bytes, " bytes; one token of this model needs ",
                                                   heads, " (one for each kv head of each layer)"));
  }
  plan.n_pages = std::max(plan.n_pages, heads);
  plan.pages = plan.n_pages * page_bytes;
  if (plan.sum() > plan.usable) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the model does not fit: ", Sum(plan), "; usable are ", MiB(plan.usable), " (",
        absl::StrFormat("%.0f %%", 100 * request.utilization), " of ", MiB(plan.free),
        " free). A shorter maximum context", asked_for ? ", less KV memory" : "", " or fewer sequences take less"));
  }
  return plan;
}

std::string MemoryTable(const MemoryPlan& plan) {
  std::string table;
  const auto line = [&](absl::string_view name, int64_t bytes) {
    absl::StrAppend(&table, table.empty() ? "" : "\n", absl::StrFormat("  %-30s %12s", name, MiB(bytes)));
  };
  line("device memory", plan.total);
  line("free before the weights", plan.free);
  line("usable", plan.usable);
  for (const auto& [name, bytes] : plan.parts()) line(absl::StrCat("- ", name), bytes);
  line("left over", plan.usable - plan.sum());
  return table;
}

}  // namespace lukv
