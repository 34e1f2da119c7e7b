#include "tools/simulate/modelled_backend.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/fnv.h"
#include "base/status_macros.h"
#include "kernels/argument_checks.h"
#include "tools/simulate/hashed_rows.h"
#include "tools/simulate/random.h"

namespace lukv {
namespace {

using modelled::EntryTerm;
using modelled::Load;
using modelled::PagedHead;
using modelled::RowHash;
using modelled::SetRow;
using modelled::StagedHead;
using modelled::Store;

// What an op is called in its hashes, so that one op's result is never another's.
enum Tag : uint64_t { kEmbed = 1, kNorm, kLinear, kDecodeLinear, kAdd, kQuery, kKey, kValue, kStaged, kPaged, kSilu };

constexpr size_t kAlignment = 64;

class HashedLinear final : public LinearWeight {
 public:
  HashedLinear(uint64_t id, int64_t out, int64_t in, size_t bytes) : id_(id), out_(out), in_(in), bytes_(bytes) {}
  int64_t out_features() const override { return out_; }
  int64_t in_features() const override { return in_; }
  size_t memory_bytes() const override { return bytes_; }
  uint64_t id() const { return id_; }

 private:
  const uint64_t id_;
  const int64_t out_;
  const int64_t in_;
  const size_t bytes_;
};

class HashedEmbedding final : public EmbeddingWeight {
 public:
  HashedEmbedding(uint64_t id, int64_t vocabulary, int64_t hidden)
      : id_(id), vocabulary_(vocabulary), hidden_(hidden) {}
  int64_t vocabulary() const override { return vocabulary_; }
  int64_t hidden() const override { return hidden_; }
  uint64_t id() const { return id_; }

 private:
  const uint64_t id_;
  const int64_t vocabulary_;
  const int64_t hidden_;
};

uint64_t HashOf(const TensorView& tensor) {
  Fnv1a64 hash;
  const size_t bytes = static_cast<size_t>(tensor.rows) * RowBytes(tensor.dtype, tensor.cols);
  hash.AddBytes({reinterpret_cast<const char*>(tensor.data), bytes});
  return Mix(hash.value(), static_cast<uint64_t>(tensor.rows));
}

// Splits a row of [q | k | v]: writes the query and gives K and V of the heads to write(head, k, v).
template <typename Write>
void SplitRow(const QkvArgs& args, int64_t row, const Write& write) {
  const uint64_t hash = RowHash(args.qkv, row);
  const uint64_t rotated = Mix(hash, static_cast<uint64_t>(Value(args.positions[row])));
  SetRow(args.q_out, row, Mix(rotated, kQuery));
  for (int32_t head = 0; head < args.n_kv_heads; ++head) {
    const uint64_t number = static_cast<uint64_t>(head) << 8;
    write(head, Mix(rotated, number + kKey), Mix(hash, number + kValue));
  }
}

// Queries meet the entries of each kv head; `sums[head]` are those that a row sees.
uint64_t Attend(uint64_t query, const std::vector<uint64_t>& sums, Tag tag) {
  uint64_t hash = Mix(query, tag);
  for (const uint64_t sum : sums) hash = Mix(hash, sum);
  return hash;
}

}  // namespace

ModelledBackend::ModelledBackend(const ModelledTimes& times, ModelledFaults faults, VirtualClock& clock)
    : seconds_per_flop_(1 / times.flops_per_second),
      seconds_per_byte_(1 / times.bytes_per_second),
      times_(times),
      faults_(std::move(faults)),
      clock_(clock) {}

absl::Status ModelledBackend::Begin(const OpCost& cost) {
  const int64_t call = calls_++;
  double seconds = std::max(static_cast<double>(cost.flops) * seconds_per_flop_,
                            static_cast<double>(cost.bytes) * seconds_per_byte_);
  if (times_.jitter > 0) {
    const uint64_t draw = Mix(times_.seed, static_cast<uint64_t>(call)) >> 40;
    seconds *= 1 + times_.jitter * static_cast<double>(draw) * 0x1p-24;
  }
  // Whole nanoseconds, so that no sum depends on how it was rounded.
  clock_.Advance(times_.per_op + absl::Nanoseconds(static_cast<int64_t>(seconds * 1e9)));
  if (!armed_ || faults_.fails == nullptr || !faults_.fails(call)) return absl::OkStatus();
  ++faults_injected_;
  return absl::InternalError("a fault of the modelled device");
}

absl::StatusOr<DeviceBuffer> ModelledBackend::Allocate(size_t bytes) {
  if (!Begin({}).ok()) return absl::ResourceExhaustedError("no memory on the modelled device");
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* const data = std::aligned_alloc(kAlignment, std::max(rounded, kAlignment));
  if (data == nullptr) return absl::ResourceExhaustedError("no memory on the host");
  std::memset(data, ++fill_, bytes);
  return DeviceBuffer(this, data, bytes);
}

void ModelledBackend::Free(void* data, size_t) { std::free(data); }

absl::Status ModelledBackend::CopyToDevice(void* device, const void* host, size_t bytes) {
  LUKV_RETURN_IF_ERROR(Begin({.bytes = static_cast<int64_t>(bytes)}));
  if (bytes != 0) std::memcpy(device, host, bytes);
  return absl::OkStatus();
}

absl::Status ModelledBackend::CopyToHost(void* host, const void* device, size_t bytes) {
  LUKV_RETURN_IF_ERROR(Begin({.bytes = static_cast<int64_t>(bytes)}));
  if (bytes != 0) std::memcpy(host, device, bytes);
  return absl::OkStatus();
}

absl::Status ModelledBackend::Synchronize() { return Begin({}); }

absl::StatusOr<MemoryInfo> ModelledBackend::Memory() {
  constexpr size_t kBytes = size_t{1} << 40;
  return MemoryInfo{.total_bytes = kBytes, .free_bytes = kBytes};
}

absl::Status ModelledBackend::Replay(uint64_t, absl::FunctionRef<absl::Status()> ops) { return ops(); }

absl::StatusOr<std::unique_ptr<LinearWeight>> ModelledBackend::PackLinear(std::span<const TensorView> parts) {
  LUKV_RETURN_IF_ERROR(CheckLinearParts(parts));
  uint64_t id = kLinear;
  int64_t rows = 0;
  size_t bytes = 0;
  for (const TensorView& part : parts) {
    id = Mix(id, HashOf(part));
    rows += part.rows;
    bytes += static_cast<size_t>(part.rows) * RowBytes(part.dtype, part.cols);
  }
  return std::make_unique<HashedLinear>(id, rows, parts.front().cols, bytes);
}

absl::StatusOr<std::unique_ptr<EmbeddingWeight>> ModelledBackend::PackEmbedding(const TensorView& table) {
  return std::make_unique<HashedEmbedding>(HashOf(table), table.rows, table.cols);
}

absl::Status ModelledBackend::DoEmbed(const EmbedArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  const uint64_t table = Mix(static_cast<const HashedEmbedding*>(args.table)->id(), kEmbed);
  for (int64_t row = 0; row < args.out.rows; ++row) {
    SetRow(args.out, row, Mix(table, static_cast<uint64_t>(args.ids[row])));
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoRmsNorm(const RmsNormArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  const uint64_t weight = Mix(Load(args.weight), kNorm);
  for (int64_t row = 0; row < args.x.rows; ++row) SetRow(args.out, row, Mix(RowHash(args.x, row), weight));
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoLinear(const LinearArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  // The arithmetic for few rows gives other bits.
  uint64_t weight = Mix(static_cast<const HashedLinear*>(args.weight)->id(), args.decode ? kDecodeLinear : kLinear);
  if (args.bias != nullptr) weight = Mix(weight, Load(args.bias));
  for (int64_t row = 0; row < args.in.rows; ++row) {
    const uint64_t product = Mix(weight, RowHash(args.in, row));
    SetRow(args.out, row, args.accumulate ? Mix(Mix(RowHash(args.out, row), kAdd), product) : product);
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoRopeStage(const RopeStageArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  for (int64_t row = 0; row < args.qkv.qkv.rows; ++row) {
    SplitRow(args.qkv, row, [&](int32_t head, uint64_t k, uint64_t v) {
      const StagedHead staged(args.staging, head);
      Store(staged.k(args.staging_row + row), k);
      Store(staged.v(args.staging_row + row), v);
    });
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoPrefillAttention(const PrefillAttentionArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  std::vector<uint64_t> sums(static_cast<size_t>(args.staging.n_kv_heads));
  for (int32_t i = 0; i < args.n_segments; ++i) {
    const PrefillSegment& segment = args.segments[i];
    for (size_t head = 0; head < sums.size(); ++head) {
      const StagedHead staged(args.staging, static_cast<int32_t>(head));
      sums[head] = 0;
      for (int32_t e = 0; e < segment.first; ++e) sums[head] += staged.Term(segment.context_row + e);
    }
    for (int32_t q = 0; q < segment.n_query; ++q) {
      for (size_t head = 0; head < sums.size(); ++head) {
        sums[head] +=
            StagedHead(args.staging, static_cast<int32_t>(head)).Term(segment.context_row + segment.first + q);
      }
      SetRow(args.out, segment.q_row + q, Attend(RowHash(args.q, segment.q_row + q), sums, kStaged));
    }
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoAppend(const AppendArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  for (int32_t s = 0; s < args.sequences.n_sequences; ++s) {
    const int32_t begin = args.sequences.row_start[s];
    const int32_t n = args.sequences.row_start[s + 1] - begin;
    for (int32_t j = 0; j < n; ++j) {
      SplitRow(args.qkv, begin + j, [&](int32_t head, uint64_t k, uint64_t v) {
        const PagedHead paged(args.table, args.pages, args.sequences.slots[s], args.layer, head);
        const int32_t entry = paged.length() - n + j;
        Store(paged.k(entry), k);
        Store(paged.v(entry), v);
      });
    }
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoPagedAttention(const PagedAttentionArgs& args) {
  int64_t entries = 0;
  std::vector<uint64_t> sums(static_cast<size_t>(args.table.n_kv_heads));
  for (int32_t s = 0; s < args.sequences.n_sequences; ++s) {
    for (int32_t head = 0; head < args.table.n_kv_heads; ++head) {
      entries += PagedHead(args.table, args.pages, args.sequences.slots[s], args.layer, head).length();
    }
  }
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args, entries)));
  for (int32_t s = 0; s < args.sequences.n_sequences; ++s) {
    const int32_t begin = args.sequences.row_start[s];
    const int32_t n = args.sequences.row_start[s + 1] - begin;
    std::vector<PagedHead> heads;
    for (int32_t head = 0; head < args.table.n_kv_heads; ++head) {
      heads.emplace_back(args.table, args.pages, args.sequences.slots[s], args.layer, head);
      sums[static_cast<size_t>(head)] = heads.back().Sum(0, heads.back().length() - n);
    }
    for (int32_t j = 0; j < n; ++j) {
      for (size_t head = 0; head < heads.size(); ++head) {
        const int32_t entry = heads[head].length() - n + j;
        sums[head] += heads[head].Sum(entry, entry + 1);
      }
      SetRow(args.out, begin + j, Attend(RowHash(args.q, begin + j), sums, kPaged));
    }
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoCompact(const CompactArgs& args) {
  int64_t entries = 0;
  for (int32_t head = 0; head < args.table.n_kv_heads; ++head) {
    entries += PagedHead(args.table, args.pages, args.slot, args.layer, head).kept();
  }
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args, entries)));
  for (int32_t head = 0; head < args.table.n_kv_heads; ++head) {
    const PagedHead paged(args.table, args.pages, args.slot, args.layer, head);
    const StagedHead staged(args.staging, head);
    for (int32_t j = 0; j < paged.kept(); ++j) {
      const int32_t row =
          args.context_row + (args.kept_rows == nullptr ? j : args.kept_rows[args.kept_offset[head] + j]);
      std::memcpy(paged.k(j), staged.k(row), staged.row_bytes());
      std::memcpy(paged.v(j), staged.v(row), staged.row_bytes());
    }
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoCopyPages(const CopyPagesArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  const size_t bytes =
      2 * static_cast<size_t>(args.pages.page_tokens) * modelled::KvRowBytes(args.pages.dtype, args.pages.head_dim);
  std::byte* const base = static_cast<std::byte*>(args.pages.base);
  for (int64_t i = 0; i < args.n_copies; ++i) {
    std::memcpy(base + args.copies[i].to * bytes, base + args.copies[i].from * bytes, bytes);
  }
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoSiluMul(const SiluMulArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  for (int64_t row = 0; row < args.out.rows; ++row) SetRow(args.out, row, Mix(RowHash(args.gate_up, row), kSilu));
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoGatherRows(const GatherRowsArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  for (int64_t row = 0; row < args.out.rows; ++row) SetRow(args.out, row, RowHash(args.in, args.rows[row]));
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoScatter(const ScatterArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  for (int64_t i = 0; i < args.n_updates; ++i) args.to[args.updates[i].index] = args.updates[i].value;
  return absl::OkStatus();
}

absl::Status ModelledBackend::DoSample(const SampleArgs& args) {
  LUKV_RETURN_IF_ERROR(Begin(CostOf(args)));
  const uint64_t vocabulary = static_cast<uint64_t>(args.logits.cols);
  for (int32_t i = 0; i < args.n_rows; ++i) {
    const SampleRow& row = args.rows[i];
    const uint64_t logits = RowHash(args.logits, row.logits_row);
    uint64_t hash = logits;
    for (const float parameter : {row.temperature, row.top_p, row.min_p, static_cast<float>(row.top_k)}) {
      hash = Mix(hash, std::bit_cast<uint32_t>(parameter));
    }
    if (row.temperature > 0) hash = Mix(hash, row.draw);
    std::vector<int32_t> masked;
    for (int32_t a = row.adjustments_begin; a < row.adjustments_end; ++a) {
      const TokenAdjustment& adjustment = args.adjustments[a];
      if (adjustment.masked) masked.push_back(adjustment.token);
      hash = Mix(hash, static_cast<uint64_t>(adjustment.token) << 32 | static_cast<uint32_t>(adjustment.count));
      hash = Mix(hash, std::bit_cast<uint32_t>(adjustment.bias));
    }
    const auto token_at = [&](uint64_t step) { return static_cast<int32_t>((hash % vocabulary + step) % vocabulary); };
    uint64_t step = 0;
    while (step < masked.size() && std::find(masked.begin(), masked.end(), token_at(step)) != masked.end()) ++step;
    args.tokens[i] = token_at(step);
    if (args.logprobs == nullptr) continue;
    args.logprobs[i] = -static_cast<float>(logits >> 40) * 0x1p-24f;
    for (int32_t t = 0; t < row.n_top; ++t) {
      args.top_tokens[int64_t{i} * args.max_top + t] = token_at(static_cast<uint64_t>(t));
      args.top_logprobs[int64_t{i} * args.max_top + t] = args.logprobs[i] - static_cast<float>(t);
    }
  }
  return absl::OkStatus();
}

}  // namespace lukv
