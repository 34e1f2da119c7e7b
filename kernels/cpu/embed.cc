#include "kernels/cpu/embed.h"

#include <algorithm>

namespace lukv::cpu {
namespace {

class MappedTable final : public EmbeddingWeight {
 public:
  explicit MappedTable(const TensorView& table) : table_(table), row_bytes_(RowBytes(table.dtype, table.cols)) {}
  int64_t vocabulary() const override { return table_.rows; }
  int64_t hidden() const override { return table_.cols; }

  void Lookup(int64_t row, float* out) const {
    Dequantize(table_.dtype, table_.data + static_cast<size_t>(row) * row_bytes_, table_.cols, out);
  }

 private:
  const TensorView table_;
  const size_t row_bytes_;
};

}  // namespace

std::unique_ptr<EmbeddingWeight> PackEmbedding(const TensorView& table) { return std::make_unique<MappedTable>(table); }

void Embed(const EmbedArgs& args, OpContext& context) {
  const MappedTable& table = static_cast<const MappedTable&>(*args.table);
  // A row takes about a microsecond: several to a task.
  constexpr int64_t kRowsPerTask = 16;
  context.pool.ParallelFor((args.out.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t end = std::min(args.out.rows, (task + 1) * kRowsPerTask);
    for (int64_t i = task * kRowsPerTask; i < end; ++i) table.Lookup(args.ids[i], args.out.row<float>(i));
  });
}

}  // namespace lukv::cpu
