#include "tools/load/books.h"

#include <set>

namespace lukv {
namespace {

double Of(const std::map<std::string, double>& counts, const char* key) {
  const auto found = counts.find(key);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

BookLine CheckEndings(const LoadRun& run) {
  std::set<int64_t> ended;
  for (const RequestRecord& record : run.records) ended.insert(record.index);
  const auto sent = static_cast<double>(run.sent);
  // One that ended twice is a record too many, one that did not an index too few.
  const bool once = ended.size() == run.records.size();
  return {.name = "requests that ended once",
          .least = sent,
          .most = sent,
          .counted = static_cast<double>(once ? run.records.size() : ended.size())};
}

std::vector<BookLine> CheckBooks(const LoadRun& run, const ServerReading& before, const ServerReading& after) {
  std::vector<RequestRecord> records = run.records;
  if (run.intruder.has_value()) records.push_back(*run.intruder);
  double ok = 0, refused = 0, aborted = 0, errors = 0, unknown = 0, tokens = 0;
  for (const RequestRecord& record : records) {
    tokens += record.tokens;
    if (!record.answered) {
      ++unknown;
    } else if (record.ending == Ending::kOk) {
      ++ok;
    } else if (record.reason == "INTERNAL") {
      ++errors;
    } else if (record.reason == "CANCELLED" || record.reason == "DEADLINE_EXCEEDED" ||
               (record.reason == "SHUTTING_DOWN" && record.tokens > 0)) {
      ++aborted;
    } else {
      ++refused;
    }
  }
  const std::map<std::string, double> ended = Increase(before.ended, after.ended);
  double refusals = 0;
  for (const auto& [reason, count] : Increase(before.refused, after.refused)) refusals += count;
  double all = refusals;
  for (const auto& [reason, count] : ended) all += count;
  const double sent = ok + refused + aborted + errors + unknown;
  const double generated = Increase(before.generated_tokens, after.generated_tokens).value_or(0);
  return {
      CheckEndings(run),
      {.name = "server: requests seen", .least = sent - unknown, .most = sent, .counted = all},
      {.name = "server: ended by stop or length",
       .least = ok,
       .most = ok + unknown,
       .counted = Of(ended, "stop") + Of(ended, "length")},
      {.name = "server: refused", .least = refused, .most = refused + unknown, .counted = refusals},
      {.name = "server: aborted", .least = aborted, .most = aborted + unknown, .counted = Of(ended, "abort")},
      {.name = "server: failed", .least = errors, .most = errors + unknown, .counted = Of(ended, "error")},
      // Tokens on their way to a client that was gone are made and not seen.
      {.name = "server: tokens generated",
       .least = tokens,
       .most = unknown + aborted + refused + errors > 0 ? generated : tokens,
       .counted = generated},
  };
}

}  // namespace lukv
