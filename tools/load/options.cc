#include "tools/load/options.h"

#include <string_view>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lukv {
namespace {

constexpr char kAbout[] =
    "Sends requests to a lukv server and reports what came of them. Prompts are random token ids, outputs go on past\n"
    "the model's end tokens, so that lengths are what they were drawn to be. The same seed makes the same requests.\n"
    "Exit codes: 0 done; 1 the server cannot be reached, or the run has findings: a request that failed or never "
    "ended,\n"
    "wrong tokens, books that do not balance; 2 the flags are wrong.";

bool ParseDuration(const std::string& text, absl::Duration& duration) {
  return ParseSeconds(text, &duration) && duration >= absl::ZeroDuration() && duration <= absl::Hours(240);
}

class Parser {
 public:
  Parser() : app_(kAbout, "lukv-bench") {
    AddRun();
    AddRequests();
    AddTrouble();
    AddReports();
  }

  std::variant<LoadOptions, ExitRequest> Parse(int argc, const char* const* argv) {
    if (std::optional<ExitRequest> exit = ParseSettings(app_, argc, argv)) return *std::move(exit);
    if (const std::string complaint = Complaint(); !complaint.empty()) return WrongSetting(app_, complaint);
    return options_;
  }

 private:
  void AddRun() {
    group_ = "Run";
    AddConnectionOptions(app_, options_.connection);
    Add("--metrics", options_.metrics, "host:port of its metrics page [not looked at]");
    Add("--seed", options_.seed, "Of everything that is drawn");
    Add("--rate", options_.rate, "Open loop: so many requests arrive in a second, whatever becomes of them")
        ->check(CLI::Range(1e-3, 1e6));
    Add("--concurrency", options_.concurrency, "Closed loop: so many requests are in flight [8 without --rate]")
        ->check(CLI::Range(1, 100000));
    Add("--requests", options_.requests, "Ends after so many [100 without --duration]")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
    AddDuration("--duration", options_.duration, "Sends for so long, then waits for what runs");
    AddDuration("--drain", options_.drain, "And at most so long; what has not ended then is cancelled and a finding");
    Add("--connections", options_.connections, "Connections that the requests are spread over [4]")
        ->check(CLI::Range(1, 1024));
  }

  void AddRequests() {
    group_ = "Requests";
    AddLengths("--prompt-tokens", options_.prompt);
    AddLengths("--output-tokens", options_.output);
    Add("--shared-contexts", options_.shared_contexts, "Contexts that are asked again and again; as long as a prompt")
        ->check(CLI::Range(0, 100000));
    AddShare("--shared-share", options_.shared_share, "Share of the requests that ask one of them");
    Add("--question-tokens", options_.question_tokens, "Of such a request, after its context")
        ->check(CLI::Range(1, 1 << 20));
    Add("--policy", options_.policy, "How contexts are compressed [the server's default]");
    app_.add_option_function<std::string>(
            "--priority-mix", [this](const std::string& text) { ParsePriorities(text); },
            "PRIORITY:WEIGHT,... that the requests' priorities are drawn by [0:1]")
        ->group(group_);
  }

  void AddTrouble() {
    group_ = "Trouble";
    AddShare("--cancel-share", options_.cancel_share,
             "Share of the requests that are cancelled, somewhere on their way");
    AddShare("--deadline-share", options_.deadline_share, "Share of the requests that have a deadline");
    AddDuration("--deadline", options_.deadline, "That deadline");
    AddShare("--slow-readers-share", options_.slow_readers_share, "Share of the requests whose reader pauses");
    AddDuration("--slow-pause", options_.slow_pause, "After each message that it reads");
    AddDuration("--kill-every", options_.kill_every, "Drops a whole connection so often, without a word [never]");
    Add("--intruder-tokens", options_.intruder_tokens,
        "One prompt of this length comes while the others run: what does it do to their tokens? The run ends with it "
        "[none]")
        ->check(CLI::Range(1, 1 << 24));
    AddDuration("--intruder-at", options_.intruder_at, "So long after the start");
    AddDuration("--intruder-before", options_.intruder_before, "The time before it that it is compared with");
  }

  void AddReports() {
    group_ = "Reports";
    AddOptionalDuration("--slo-ttft", options_.slo_ttft, "Goodput counts answers whose first token came within");
    AddOptionalDuration("--slo-itl", options_.slo_itl, "and whose further tokens took this on average");
    Add("--json", options_.json, "Everything as JSON into this file");
    Add("--plot", options_.plot, "A picture of the run, SVG, into this file");
  }

  template <typename T>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help) {
    return app_.add_option(name, value, help)->group(group_);
  }
  void AddShare(const std::string& name, double& value, const std::string& help) {
    Add(name, value, help)->check(CLI::Range(0.0, 1.0))->capture_default_str();
  }
  void AddLengths(const std::string& name, Lengths& lengths) {
    app_.add_option_function<std::string>(
            name,
            [this, name, &lengths](const std::string& text) {
              const absl::StatusOr<Lengths> parsed = Lengths::Parse(text);
              if (parsed.ok()) {
                lengths = *parsed;
              } else {
                complaint_ = absl::StrCat(name, ": ", std::string(parsed.status().message()));
              }
            },
            absl::StrCat("TOKENS, uniform:LO:HI or lognormal:MEAN:SIGMA [", lengths.text(), "]"))
        ->group(group_);
  }
  template <typename Set>
  void AddDurationWith(const std::string& name, const std::string& help, Set set) {
    app_.add_option_function<std::string>(
            name,
            [this, name, set](const std::string& text) {
              absl::Duration duration;
              if (ParseDuration(text, duration)) {
                set(duration);
              } else {
                complaint_ = absl::StrCat(name, ": \"", text, "\" is no duration like 30s");
              }
            },
            help)
        ->group(group_);
  }
  void AddDuration(const std::string& name, absl::Duration& value, const std::string& help) {
    const std::string shown = value == absl::ZeroDuration() ? "" : absl::StrCat(" [", absl::FormatDuration(value), "]");
    AddDurationWith(name, help + shown, [&value](absl::Duration duration) { value = duration; });
  }
  void AddOptionalDuration(const std::string& name, std::optional<absl::Duration>& value, const std::string& help) {
    AddDurationWith(name, help, [&value](absl::Duration duration) { value = duration; });
  }

  void ParsePriorities(const std::string& text) {
    options_.priorities.clear();
    for (const absl::string_view part : absl::StrSplit(text, ',')) {
      const std::vector<absl::string_view> pair = absl::StrSplit(part, ':');
      int32_t priority = 0;
      double weight = 0;
      if (pair.size() != 2 || !absl::SimpleAtoi(pair[0], &priority) || !absl::SimpleAtod(pair[1], &weight) ||
          weight <= 0 || priority < -100 || priority > 100) {
        complaint_ = absl::StrCat("--priority-mix: \"", text, "\" is no list like 0:9,5:1");
        return;
      }
      options_.priorities[priority] = weight;
    }
  }

  // What is wrong; empty if nothing. Fills in what depends on what was given.
  std::string Complaint() {
    if (!complaint_.empty()) return complaint_;
    if (options_.rate > 0 && options_.concurrency > 0) return "--rate does not go with --concurrency";
    if (options_.rate <= 0 && options_.concurrency == 0) options_.concurrency = 8;
    if (options_.requests == 0 && options_.duration == absl::ZeroDuration()) options_.requests = 100;
    if (options_.connection.wants_tls() && options_.kill_every > absl::ZeroDuration()) {
      return "--kill-every cuts sockets under plaintext alone, not under TLS";
    }
    if (app_.count("--shared-share") > 0 && options_.shared_contexts == 0)
      return "--shared-share needs --shared-contexts";
    if (options_.cancel_share + options_.deadline_share + options_.slow_readers_share > 1) {
      return "--cancel-share, --deadline-share and --slow-readers-share make up more than 1";
    }
    if (options_.intruder_tokens > 0 && options_.intruder_before > options_.intruder_at) {
      return "--intruder-before must not be longer than --intruder-at";
    }
    return "";
  }

  CLI::App app_;
  std::string group_;
  LoadOptions options_;
  std::string complaint_;
};

}  // namespace

bool WantsLoad(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--server" || argument.starts_with("--server=")) return true;
  }
  return false;
}

std::variant<LoadOptions, ExitRequest> ParseLoadOptions(int argc, const char* const* argv) {
  return Parser().Parse(argc, argv);
}

}  // namespace lukv
