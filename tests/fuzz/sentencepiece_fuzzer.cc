// Any text through a SentencePiece vocabulary and back.
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/tiny_tokenizers.h"
#include "tests/fuzz/try_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string* const kGguf = new std::string(lukv::TinySentencePieceGguf());
  static const lukv::Tokenizer* const kTokenizer = lukv::TinyTokenizer(*kGguf).release();
  lukv::TryTokenizer(*kTokenizer, lukv::InputText(data, size), "\xE2\x96\x81");
  return 0;
}
