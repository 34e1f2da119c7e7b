#include "tools/client/options.h"

#include <CLI/CLI.hpp>

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-client";

void AddPromptOptions(CLI::App& app, ClientOptions& options) {
  const std::string group = "Prompt (exactly one)";
  app.add_option("--prompt", options.prompt, "Text to continue")->group(group);
  app.add_option("--prompt-file", options.prompt_file, "File with the text; - is stdin")->group(group);
  app.add_option("--chat", options.chat, "What a user says; the model's chat template is put around it")->group(group);
  app.add_option("--token-ids", options.token_ids_file,
                 "File with token ids, separated by white space or commas; - is stdin")
      ->group(group);
  app.add_option("--context-file", options.context_file,
                 "File with text in front of the prompt, which is compressed without having seen it; - is stdin");
  app.add_option("--system", options.system, "System message in front of --chat");
  app.add_flag("--parse-special", options.parse_special,
               "Special tokens written out in --prompt or --prompt-file count as such");
}

void AddEvictionOptions(CLI::App& app, ClientOptions& options) {
  const std::string group = "Eviction (defaults are the server's)";
  app.add_option("--policy", options.policy,
                 "How the context is compressed: full, or ALLOCATOR+SCORER@RATIO like lukv+expected_attention@0.8")
      ->group(group);
  app.add_option("--tail", options.tail, "Without --context-file: the last so many tokens are the question")
      ->group(group);
}

void AddSamplingOptions(CLI::App& app, ClientOptions& options) {
  const std::string group = "Sampling (defaults are the server's)";
  const auto add = [&](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->group(group);
  };
  add("--max-tokens", options.max_tokens, "Most tokens to generate [128]");
  add("--min-tokens", options.min_tokens, "Do not stop before so many tokens");
  add("--n", options.n, "Samples to draw [1]");
  add("--temperature", options.temperature, "0: always the likeliest token");
  add("--top-k", options.top_k, "Draw among the k likeliest; 0: all");
  add("--top-p", options.top_p, "Draw among the likeliest that make up this probability");
  add("--min-p", options.min_p, "Leave out what is less likely than this times the likeliest");
  add("--repetition-penalty", options.repetition_penalty, "1: none");
  add("--frequency-penalty", options.frequency_penalty, "0: none");
  add("--presence-penalty", options.presence_penalty, "0: none");
  add("--seed", options.seed, "The same seed gives the same tokens");
  // One value each time, so that a stop string may look like a flag's value list.
  app.add_option("--stop", options.stop, "End before this string; may be given several times")
      ->group(group)
      ->allow_extra_args(false);
  app.add_option("--stop-id", options.stop_ids, "End after this token; may be given several times")
      ->group(group)
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on past the model's end tokens")->group(group);
  add("--logprobs", options.logprobs, "Report log-probabilities, with so many alternatives (with --json)");
}

CLI::App* AddTop(CLI::App& app, TopOptions& options) {
  CLI::App* top = app.add_subcommand("top", "Show what a server does, again and again, from its metrics page");
  top->add_option("--metrics", options.metrics, "host:port of that page")->capture_default_str();
  top->add_option("--interval", options.interval, "Time from one view to the next")
      ->check(CLI::Validator(
          [](std::string& text) {
            absl::Duration interval;
            const bool good = ParseSeconds(text, &interval) && interval > absl::ZeroDuration();
            return good ? std::string() : "\"" + text + "\" is no duration like 1s";
          },
          "DURATION"))
      ->capture_default_str();
  top->add_flag("--once", options.once, "One view, of one interval, then end");
  return top;
}

// Empty if all is well.
std::string Conflict(const ClientOptions& options, const CLI::App& app) {
  size_t prompts = 0;
  for (const char* name : {"--prompt", "--prompt-file", "--chat", "--token-ids"}) {
    prompts += app.count(name) > 0 ? 1 : 0;
  }
  if (prompts != 1) return "give exactly one of --prompt, --prompt-file, --chat, --token-ids";
  if (!options.context_file.empty() && !options.chat.empty()) return "--context-file does not go with --chat";
  if (options.context_file == "-" && (options.prompt_file == "-" || options.token_ids_file == "-")) {
    return "only one file can be stdin";
  }
  if (!options.context_file.empty() && options.tail.has_value()) return "--tail does not go with --context-file";
  if (!options.system.empty() && options.chat.empty()) return "--system needs --chat";
  if (options.stream && !options.json && options.n != 1) {
    return "--stream shows one sample: got --n " + std::to_string(options.n);
  }
  if (options.logprobs.has_value() && !options.json) return "--logprobs needs --json";
  return "";
}

}  // namespace

std::variant<ClientOptions, ExitRequest> ParseClientOptions(int argc, const char* const* argv) {
  ClientOptions options;
  CLI::App app("Asks a lukv server to continue a prompt.", kProgram);
  AddConnectionOptions(app, options.connection);
  AddPromptOptions(app, options);
  AddEvictionOptions(app, options);
  AddSamplingOptions(app, options);
  app.add_option("--timeout", options.timeout_seconds, "Give up after so many seconds")->check(CLI::PositiveNumber);
  app.add_option("--request-id", options.request_id, "Name of the request in the server's log");
  app.add_flag("--stream", options.stream, "Print text as it comes");
  app.add_flag("--json", options.json, "Print one JSON object at the end (instead of the text)");
  app.add_flag("--quiet", options.quiet, "No summary on stderr");
  app.footer(
      "Every flag is also read from a variable (--max-tokens from LUKV_MAX_TOKENS) and from the file given by\n"
      "--config. Exit codes: 0 done (health: SERVING); 1 the server cannot be reached, refused the request or\n"
      "failed (health: anything but SERVING); 2 the flags are wrong; 130 interrupted.");
  CLI::App* health = app.add_subcommand("health", "Print the health of a server: SERVING, NOT_SERVING, ...");
  health->add_option("--service", options.health_service, "Whose health; empty: the process's")->capture_default_str();
  health->fallthrough();
  CLI::App* hash_key =
      app.add_subcommand("hash-key", "Read an API key from stdin and print its line for the server's --api-keys file");
  hash_key->add_option("name", options.hash_key_name, "Whose key it is")->required();
  const CLI::App* top = AddTop(app, options.top_options);
  if (std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return *std::move(exit);
  options.health = health->parsed();
  options.top = top->parsed();
  if (!options.health && !options.top && !hash_key->parsed()) {
    if (const std::string conflict = Conflict(options, app); !conflict.empty()) return WrongSetting(app, conflict);
  }
  return options;
}

}  // namespace lukv
