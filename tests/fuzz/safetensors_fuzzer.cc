// safetensors files: the header, and that every byte of every tensor is inside the file.
#include "engine/model/safetensors.h"
#include "kernels/dtype.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = lukv::InputText(data, size);
  const auto file = lukv::SafetensorsFile::Parse(bytes);
  if (!file.ok()) return 0;
  size_t sum = 0;
  for (const std::string_view name : (*file)->TensorNames()) {
    const auto view = (*file)->Tensor(name);
    if (!view.ok()) continue;
    const size_t n = static_cast<size_t>(view->rows) * lukv::RowBytes(view->dtype, view->cols);
    for (size_t i = 0; i < n; ++i) sum += static_cast<size_t>(view->data[i]);
  }
  return sum > 0 ? 0 : 0;
}
