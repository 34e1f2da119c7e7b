// Touches every value of a GGUF file's tensors, for files that somebody made to do harm.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/model/gguf.h"
#include "kernels/dtype.h"

namespace lukv {

// Tensors of types that lukv does not read are skipped.
inline void DequantizeAll(const GgufFile& file) {
  for (const std::string_view name : file.TensorNames()) {
    const auto view = file.Tensor(name);
    if (!view.ok()) continue;
    std::vector<float> row(static_cast<size_t>(view->cols));
    for (int64_t r = 0; r < view->rows; ++r) {
      Dequantize(view->dtype, view->data + static_cast<size_t>(r) * RowBytes(view->dtype, view->cols), view->cols,
                 row.data());
    }
  }
}

}  // namespace lukv
