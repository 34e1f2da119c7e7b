// GGUF files: headers, tensors, the model and the tokenizer that they describe.
#include "engine/model/gguf.h"
#include "engine/model/gguf_weights.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/model/dequantize_all.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = lukv::InputText(data, size);
  auto file = lukv::GgufFile::Parse(bytes);
  if (!file.ok()) return 0;
  lukv::DequantizeAll(**file);
  if (const auto tokenizer = lukv::TokenizerFromGguf(**file); tokenizer.ok()) {
    const lukv::TextSegment text{.text = "Hello, they'll 123", .parse_special = true};
    (*tokenizer)->Encode({&text, 1}, true).IgnoreError();
  }
  lukv::WeightsFromGguf(*std::move(file), "fuzz").IgnoreError();
  return 0;
}
