// What an evaluation found, as tables for people and JSON for programs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lukv {

// Of one task at one length under one policy; means over the samples.
struct EvalResult {
  std::string task;
  int32_t length = 0;
  std::string policy;  // PolicyName
  double ratio = 0;    // Part of the context's entries that is removed; 0 for full.
  double score = 0;    // 0 to 100, higher is better; nll: nats per token, lower is better.
  int32_t samples = 0;
  int64_t kv_bytes_full = 0;      // Pages that the full cache of context and question takes.
  int64_t kv_bytes_resident = 0;  // Pages that the policy's takes.
  double prefill_s = 0;           // Of the context, once for all policies of a round.
  double decode_s = 0;            // Of one token, when the sequence decodes alone.
  std::optional<double> kl;       // nll: mean of KL(full || policy) in nats.
  std::optional<double> top1;     // nll: part of tokens where policy and full cache like the same token best.
};

// A list of objects, in the order given.
std::string ResultsJson(std::span<const EvalResult> results);

// Below this score of the full cache a task says nothing of eviction: it is marked and not in any mean.
inline constexpr double kLeastFullScore = 50;

// Whether the task (not nll) counts at this length, by the full cache's score.
bool Counts(std::span<const EvalResult> results, const std::string& task, int32_t length);

// Markdown: for each length a table policy x task (score, and per cent of the full cache's) with the mean, the bytes
// kept and the time of a token; a table for nll; and the mean over everything that counts, policy x ratio, where there
// is more than one length or ratio.
std::string ResultsMarkdown(std::span<const EvalResult> results);

// "lukv+keydiff@0.8:sink=8" -> "lukv+keydiff:sink=8", 0.8 being the ratio; other names stay.
std::string WithoutRatio(const EvalResult& result);

}  // namespace lukv
