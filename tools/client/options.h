// What lukv-client was asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/settings.h"
#include "tools/client/connection.h"
#include "tools/client/top.h"

namespace lukv {

struct ClientOptions {
  ConnectionOptions connection;
  std::string hash_key_name;  // The subcommand hash-key; "": another.
  bool health = false;        // The subcommand.
  std::string health_service = "lukv.v1.Inference";
  bool top = false;  // The other one.
  TopOptions top_options;

  // One of these, as given; files are not read yet.
  std::string prompt;
  std::string prompt_file;
  std::string chat;
  std::string token_ids_file;
  std::string system;  // With chat.
  bool parse_special = false;
  std::string context_file;  // With prompt, prompt_file or token_ids_file, which are then the question.
  std::string policy;        // Eviction; "": the server's.
  std::optional<int32_t> tail;

  int32_t max_tokens = 128;
  int32_t n = 1;
  std::optional<int32_t> min_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> presence_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_ids;
  bool ignore_eos = false;
  std::optional<int32_t> logprobs;  // So many alternatives.
  std::string request_id;
  std::optional<double> timeout_seconds;

  bool stream = false;
  bool json = false;
  bool quiet = false;
};

std::variant<ClientOptions, ExitRequest> ParseClientOptions(int argc, const char* const* argv);

}  // namespace lukv
