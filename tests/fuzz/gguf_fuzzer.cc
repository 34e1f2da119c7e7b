// GGUF files: headers, tensors, the model and the tokenizer that they describe.
#include <vector>

#include "engine/model/gguf.h"
#include "engine/model/gguf_weights.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/dtype.h"
#include "tests/fuzz/fuzz_target.h"

namespace lukv {
namespace {

void ReadTensors(const GgufFile& file) {
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

}  // namespace
}  // namespace lukv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = lukv::InputText(data, size);
  auto file = lukv::GgufFile::Parse(bytes);
  if (!file.ok()) return 0;
  lukv::ReadTensors(**file);
  if (const auto tokenizer = lukv::TokenizerFromGguf(**file); tokenizer.ok()) {
    const lukv::TextSegment text{.text = "Hello, they'll 123", .parse_special = true};
    (*tokenizer)->Encode({&text, 1}, true).IgnoreError();
  }
  lukv::WeightsFromGguf(*std::move(file), "fuzz").IgnoreError();
  return 0;
}
