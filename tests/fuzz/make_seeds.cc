// Writes the seeds of all fuzz targets: small inputs that reach the code behind the first checks.
// usage: lukv_fuzz_seeds FOLDER     (tests/fuzz/corpus)
#include <google/protobuf/text_format.h>

#include <cstdio>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"
#include "lukv/v1/inference.pb.h"
#include "tests/engine/model/gguf_builder.h"
#include "tests/engine/model/safetensors_builder.h"
#include "tests/fuzz/tiny_tokenizers.h"
#include "vllm_engine.pb.h"

namespace lukv {
namespace {

class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) {}

  void Add(const std::string& target, const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(folder_ + "/" + target);
    LUKV_CHECK(WriteWholeFile(folder_ + "/" + target + "/" + name, bytes).ok());
  }

  // The kinds of request_fuzzer.cc.
  template <typename Message>
  void AddRequest(char kind, const std::string& name, const std::string& text_format) const {
    Message message;
    LUKV_CHECK(google::protobuf::TextFormat::ParseFromString(text_format, &message));
    Add("request", name, std::string(1, kind) + message.SerializeAsString());
  }

 private:
  const std::string folder_;
};

void AddRequests(const Seeds& seeds) {
  seeds.AddRequest<v1::GenerateRequest>(0, "text", R"(request_id: "r" text: "hello" max_tokens: 9 min_tokens: 2 n: 2
    stop: "x" stop_token_ids: 7 logprobs: true top_logprobs: 3 ignore_eos: true priority: -5 parse_special: true tail: 3
    sampling { temperature: 0.5 top_k: 4 top_p: 0.9 min_p: 0.1 repetition_penalty: 1.1 seed: 1 })");
  seeds.AddRequest<v1::GenerateRequest>(
      0, "context", R"(context_text: "a long context" text: "a question" policy: "uniform+keydiff@0.5:sink=2")");
  seeds.AddRequest<v1::GenerateRequest>(0, "tokens",
                                        R"(token_ids { ids: [1, 2, 3] } context_token_ids { ids: [4, 5] })");
  seeds.AddRequest<v1::GenerateRequest>(0, "chat", R"(conversation_id: "c" conversation {
    messages { role: "system" content: "s" } messages { role: "user" content: "u" } })");
  seeds.AddRequest<vllm::grpc::engine::GenerateRequest>(
      1, "vllm", R"(request_id: "r" tokenized { original_text: "t" input_ids: [5, 6] } stream: true
    sampling_params { temperature: 0.7 top_p: 0.9 max_tokens: 5 stop: "y" n: 2 })");
  seeds.AddRequest<v1::CreateContextRequest>(2, "create", R"(context_id: "c" context_text: "words")");
  seeds.AddRequest<v1::TokenizeRequest>(3, "tokenize", R"(text: "words")");
  seeds.AddRequest<v1::DetokenizeRequest>(4, "detokenize", R"(token_ids: [104, 105])");
}

void AddFiles(const Seeds& seeds) {
  const std::string row(4 * 8, '\x3c');
  GgufBuilder model;
  model.AddString("general.architecture", "llama")
      .Add("llama.block_count", uint32_t{1})
      .Add("llama.context_length", uint32_t{64})
      .Add("llama.embedding_length", uint32_t{8})
      .Add("llama.feed_forward_length", uint32_t{8})
      .Add("llama.attention.head_count", uint32_t{2})
      .Add("llama.attention.head_count_kv", uint32_t{1})
      .Add("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .Add("llama.rope.freq_base", 10000.0f)
      .AddStrings("tokenizer.ggml.tokens", {"a", "b"})
      .AddTensor("output_norm.weight", kGgufF32, {8}, row)
      .AddTensor("token_embd.weight", kGgufF16, {8, 2}, row);
  seeds.Add("gguf", "model", model.Build());
  GgufBuilder quantised;
  quantised.AddTensor("w", kGgufQ8_0, {32, 2}, std::string(68, '\1'));
  seeds.Add("gguf", "quantised", quantised.Build());
  GgufBuilder words;
  words.AddString("tokenizer.ggml.model", "gpt2")
      .AddString("tokenizer.ggml.pre", "gpt-2")
      .AddStrings("tokenizer.ggml.tokens", {"a", "b", "ab", "<e>"})
      .AddArray<int32_t>("tokenizer.ggml.token_type", {1, 1, 1, 3})
      .AddStrings("tokenizer.ggml.merges", {"a b"})
      .Add("tokenizer.ggml.eos_token_id", uint32_t{3});
  seeds.Add("gguf", "tokenizer", words.Build());

  SafetensorsBuilder tensors;
  tensors.AddF32("norm", {4}).Add("w", "BF16", {2, 3}, std::string(12, '\2')).Add("h", "F16", {1}, "ab");
  seeds.Add("safetensors", "three", tensors.Build());
  seeds.Add("safetensors", "none", SafetensorsBytes("{}", ""));
}

void AddTexts(const Seeds& seeds) {
  for (const char* target : {"byte_level", "sentencepiece"}) {
    seeds.Add(target, "words", std::string("\x03") + "<e>abc they'll 123  \n\t ab a");
    seeds.Add(target, "unicode", std::string("\x00", 1) + "\u5B57\U0001F600e\u0301\u00e9\u2581a <e>");
    seeds.Add(target, "broken", "\x05\xFF\xE2\x82 ab\xC3");
  }
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const lukv::Seeds seeds(argv[1]);
  lukv::AddRequests(seeds);
  lukv::AddFiles(seeds);
  lukv::AddTexts(seeds);
  return 0;
}
