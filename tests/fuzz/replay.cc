// Runs a fuzz target on the files of a folder, without a fuzzer: its seeds stay what it can read.
// usage: REPLAY FOLDER
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "tests/fuzz/fuzz_target.h"

int main(int argc, char** argv) {
  constexpr size_t kMaxBytes = size_t{1} << 20;
  int runs = 0;
  if (argc != 2) return 2;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    const auto input = lukv::ReadWholeFile(entry.path().string(), kMaxBytes);
    if (!input.ok()) {
      std::fprintf(stderr, "%s\n", std::string(input.status().message()).c_str());
      return 1;
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input->data()), input->size());
    ++runs;
  }
  std::printf("%d inputs of %s\n", runs, argv[1]);
  return runs > 0 ? 0 : 1;
}
