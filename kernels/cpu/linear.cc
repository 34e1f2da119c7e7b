#include "kernels/cpu/linear.h"

#include <algorithm>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_linear.h"

namespace lukv::cpu {
namespace {

constexpr int64_t kPanelGroup = 4;  // Panels whose results are stored together.

// How a layer is cut into tasks: chunks of row tiles times chunks of panels. The cut only decides who computes an
// output and when; the output itself is always the same chain of operations.
struct TaskGrid {
  int64_t tiles_per_chunk = 1;
  int64_t row_chunks = 1;
  int64_t panel_chunks = 1;
};

TaskGrid CutTasks(const PackedLinear& weight, int64_t rows, int64_t activation_bytes_per_row, int threads) {
  TaskGrid grid;
  // A chunk's activations are read once per panel and should stay in half of a 1 MiB L2 cache.
  constexpr int64_t kActivationBytes = int64_t{512} << 10;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  grid.tiles_per_chunk = std::clamp<int64_t>(kActivationBytes / (kTileRows * activation_bytes_per_row), 1, tiles);
  grid.row_chunks = (tiles + grid.tiles_per_chunk - 1) / grid.tiles_per_chunk;
  // Many tasks balance well, but each should run for a few microseconds. Rough cost of a core: 12 bytes of weights or
  // 300 operations per nanosecond, whichever is more.
  constexpr double kTaskNanoseconds = 3000;
  constexpr int64_t kTasksPerThread = 16;
  const double operations = 2.0 * static_cast<double>(rows * weight.in_features() * weight.out_features());
  const double nanoseconds = std::max(static_cast<double>(weight.memory_bytes()) / 12, operations / 300);
  int64_t tasks = static_cast<int64_t>(nanoseconds / kTaskNanoseconds);
  tasks = std::min((tasks + threads - 1) / threads, kTasksPerThread) * threads;
  grid.panel_chunks = std::clamp<int64_t>((tasks + grid.row_chunks - 1) / grid.row_chunks, 1, weight.n_panels());
  return grid;
}

class LinearRun {
 public:
  LinearRun(const LinearArgs& args, CpuCompute compute, OpContext& context)
      : args_(args),
        weight_(static_cast<const PackedLinear&>(*args.weight)),
        compute_(compute),
        context_(context),
        rows_(args.in.rows),
        inputs_(args.in.cols) {
    const auto is_int8 = [&](const PackedPart& part) { return UsesInt8(part); };
    any_int8_ = std::ranges::any_of(weight_.parts(), is_int8);
    any_float_ = !std::ranges::all_of(weight_.parts(), is_int8);
  }

  void Run() {
    PackActivations();
    const int64_t bytes_per_row = any_float_ ? inputs_ * 4 : inputs_ * 5 / 4;
    const TaskGrid grid = CutTasks(weight_, rows_, bytes_per_row, context_.pool.threads());
    const int64_t tiles = (rows_ + kTileRows - 1) / kTileRows;
    context_.pool.ParallelFor(grid.row_chunks * grid.panel_chunks, [&](int64_t task, int thread) {
      const int64_t row_chunk = task / grid.panel_chunks;
      const int64_t panel_chunk = task % grid.panel_chunks;
      const int64_t first_tile = row_chunk * grid.tiles_per_chunk;
      const int64_t last_tile = std::min(tiles, first_tile + grid.tiles_per_chunk);
      RunPanels(panel_chunk * weight_.n_panels() / grid.panel_chunks,
                (panel_chunk + 1) * weight_.n_panels() / grid.panel_chunks, first_tile, last_tile, thread);
    });
  }

 private:
  bool UsesInt8(const PackedPart& part) const { return compute_ == CpuCompute::kInt8 && !IsFloat(part.layout.dtype); }

  // Into the shared scratch, in the form(s) that the parts need.
  void PackActivations() {
    const size_t int8_bytes = any_int8_ ? (Int8Tiles::Bytes(rows_, inputs_) + 63) / 64 * 64 : 0;
    const size_t float_bytes = any_float_ ? FloatTiles::Bytes(rows_, inputs_) : 0;
    std::byte* memory = context_.Scratch(-1, int8_bytes + float_bytes);
    int8_ = Int8Tiles(rows_, any_int8_ ? inputs_ : 0, memory);
    float_ = FloatTiles{rows_, inputs_, reinterpret_cast<float*>(memory + int8_bytes)};
    if (any_int8_) {
      const auto quantize = [&](int64_t task, int) {
        const int64_t first = task * kQuantizeRows;
        QuantizeRows(args_.in, first, std::min(kQuantizeRows, rows_ - first), int8_, context_);
      };
      const int64_t tasks = (rows_ + kQuantizeRows - 1) / kQuantizeRows;
      // Little work is done before another thread would have heard of it.
      constexpr int64_t kSerialElements = 8192;
      if (rows_ * inputs_ <= kSerialElements) {
        for (int64_t task = 0; task < tasks; ++task) quantize(task, 0);
      } else {
        context_.pool.ParallelFor(tasks, quantize);
      }
    }
    if (any_float_) {
      context_.pool.ParallelFor((rows_ + kTileRows - 1) / kTileRows,
                                [&](int64_t t, int) { PackFloatRows(args_.in, t, float_, context_); });
    }
  }

  void RunPanels(int64_t begin, int64_t end, int64_t first_tile, int64_t last_tile, int thread) {
    for (const PackedPart& part : weight_.parts()) {
      const int64_t last = std::min(end - part.first_panel, part.n_panels());
      for (int64_t i = std::max<int64_t>(begin - part.first_panel, 0); i < last; i += kPanelGroup) {
        RunPanelGroup(part, i, std::min(kPanelGroup, last - i), first_tile, last_tile, thread);
      }
    }
  }

  void RunPanelGroup(const PackedPart& part, int64_t first, int64_t n, int64_t first_tile, int64_t last_tile,
                     int thread) {
    alignas(64) float acc[kPanelGroup * kTileRows * kPanelRows];  // [n][rows][16]
    const bool int8 = UsesInt8(part);
    DType dtype = part.layout.dtype;
    const std::byte* panels = part.panel(first);
    size_t panel_bytes = part.layout.bytes;
    if (!int8 && !IsFloat(dtype)) {
      panels = Dequantize(part, first, n, thread);
      dtype = DType::kF32;
      panel_bytes = static_cast<size_t>(inputs_ * kPanelRows) * sizeof(float);
    }
    const int64_t first_output = first * kPanelRows;
    for (int64_t t = first_tile; t < last_tile; ++t) {
      const int64_t rows = std::min(kTileRows, rows_ - t * kTileRows);
      for (int64_t i = 0; i < n; ++i) {
        const std::byte* panel = panels + static_cast<size_t>(i) * panel_bytes;
        float* panel_acc = acc + i * rows * kPanelRows;
        if (int8) {
          MultiplyInt8(part.layout, panel, int8_.tile(t), panel_acc, context_);
        } else {
          MultiplyFloat(dtype, panel, float_, t, panel_acc, context_);
        }
      }
      StoreResults(args_, acc, t * kTileRows, rows, part.first_output + first_output,
                   std::min(n * kPanelRows, part.outputs - first_output), context_);
    }
  }

  // The panels as f32, in the thread's scratch.
  const std::byte* Dequantize(const PackedPart& part, int64_t first, int64_t n, int thread) {
    const size_t panel_floats = static_cast<size_t>(inputs_ * kPanelRows);
    std::byte* memory = context_.Scratch(thread, static_cast<size_t>(n) * panel_floats * sizeof(float));
    for (int64_t i = 0; i < n; ++i) {
      DequantizePanel(part.layout, part.panel(first + i),
                      reinterpret_cast<float*>(memory) + static_cast<size_t>(i) * panel_floats, context_);
    }
    return memory;
  }

  const LinearArgs& args_;
  const PackedLinear& weight_;
  const CpuCompute compute_;
  OpContext& context_;
  const int64_t rows_;
  const int64_t inputs_;
  bool any_int8_ = false;
  bool any_float_ = false;
  Int8Tiles int8_{0, 0, nullptr};
  FloatTiles float_{};
};

}  // namespace

void Linear(const LinearArgs& args, CpuCompute compute, OpContext& context) {
  if (args.in.rows > 0) LinearRun(args, compute, context).Run();
}

}  // namespace lukv::cpu
