// Damaged GGUF files end in a clear error or in a file that is safe to read; under AddressSanitizer this is the proof
// that no length in a file is believed.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "engine/model/gguf.h"
#include "engine/model/gguf_weights.h"
#include "tests/engine/model/allocation_probe.h"
#include "tests/engine/model/dequantize_all.h"
#include "tests/engine/model/mutate.h"
#include "tests/engine/model/status_matchers.h"
#include "tests/engine/model/tiny_gguf.h"

namespace lukv {
namespace {

// Reads everything that the file offers.
void ReadAll(const GgufFile& file) {
  for (const char* key : {"general.architecture", "general.name", "llama.block_count", "llama.rope.freq_base",
                          "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.add_bos_token"}) {
    file.GetString(key).IgnoreError();
    file.GetInt(key).IgnoreError();
    file.GetFloat(key).IgnoreError();
    file.GetBool(key).IgnoreError();
    file.GetInts(key).IgnoreError();
    file.GetFloats(key).IgnoreError();
    if (const auto strings = file.GetStrings(key); strings.ok()) {
      size_t sum = 0;
      for (const std::string_view text : *strings) {
        for (const char c : text) sum += static_cast<unsigned char>(c);
      }
      EXPECT_LE(sum, 255 * file.file_bytes());
    }
  }
  DequantizeAll(file);
}

TEST(GgufHostile, EveryTruncationIsRefused) {
  const std::string file = TinyLlama();
  for (size_t size = 0; size < file.size(); ++size) {
    const ExactCopy copy(std::string_view(file).substr(0, size));
    const auto result = GgufFile::Parse(copy.view());
    ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << size << " bytes: " << result.status();
  }
}

TEST(GgufHostile, MutationsAreRefusedOrSafe) {
  const std::string file = TinyLlama();
  std::mt19937_64 rng(20250314);
  int refused = 0;
  int opened = 0;
  int models = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    const ExactCopy copy(Mutate(file, rng));
    const AllocationProbe probe;
    auto result = GgufFile::Parse(copy.view());
    // Parsing allocates an entry per key and tensor, and messages.
    EXPECT_LT(probe.bytes(), 16384 + 8 * copy.view().size());
    if (!result.ok()) {
      ++refused;
      EXPECT_FALSE(result.status().message().empty());
      EXPECT_LT(result.status().message().size(), 400u);
      continue;
    }
    ++opened;
    ReadAll(**result);
    const AllocationProbe weights_probe;
    const auto weights = WeightsFromGguf(*std::move(result), "mutated");
    EXPECT_LT(weights_probe.bytes(), 16384 + 8 * copy.view().size());
    if (weights.ok()) ++models;
  }
  // The mutations are of use only if they reach all three ends.
  EXPECT_GT(refused, kRounds / 10);
  EXPECT_GT(opened, kRounds / 10);
  EXPECT_GT(models, kRounds / 100);
}

}  // namespace
}  // namespace lukv
