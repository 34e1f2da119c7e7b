#include "server/api_keys.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "server/log.h"

namespace lukv {
namespace {

constexpr size_t kMaxFileBytes = size_t{4} << 20;
constexpr size_t kMaxName = 64;

struct Line {
  std::string tenant;
  Sha256Digest digest;
  TenantLimits limits;
};

bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= kMaxName && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

bool ParseDigest(const std::string& text, Sha256Digest& digest) {
  if (text.size() != 2 * digest.size() || !std::all_of(text.begin(), text.end(), absl::ascii_isxdigit)) return false;
  const std::string bytes = absl::HexStringToBytes(text);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return true;
}

template <typename T>
bool ParseLimit(const std::string& word, const std::string& name, T& limit) {
  T value = 0;
  if (!word.starts_with(name) || !absl::SimpleAtoi(word.substr(name.size()), &value) || value < 1) return false;
  limit = value;
  return true;
}

// What is wrong with the line, "" if nothing is. Mistakes are not quoted: somebody may have pasted the key itself.
std::string ParseLine(const std::vector<std::string>& words, Line& line) {
  if (words.size() < 2) return "is not NAME SHA256 [concurrency=N] [queued-tokens=N]";
  if (!IsName(words[0])) return "the name is not 1 to 64 of A-Z a-z 0-9 . _ -";
  if (!ParseDigest(words[1], line.digest)) return "the hash is not 64 hexadecimal digits (lukv-client hash-key)";
  line.tenant = words[0];
  for (size_t i = 2; i < words.size(); ++i) {
    if (!ParseLimit(words[i], "concurrency=", line.limits.concurrency) &&
        !ParseLimit(words[i], "queued-tokens=", line.limits.queued_tokens)) {
      return "what follows the hash is not concurrency=N or queued-tokens=N with N >= 1";
    }
  }
  return "";
}

absl::StatusOr<std::vector<Line>> ParseFile(const std::string& path, const std::string& text) {
  std::vector<Line> lines;
  std::map<std::string, TenantLimits> limits;
  int number = 0;
  for (const auto row : absl::StrSplit(text, '\n')) {
    ++number;
    const auto fail = [&](const std::string& reason) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", reason));
    };
    const std::vector<std::string> words =
        absl::StrSplit(row.substr(0, row.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    Line line;
    if (const std::string wrong = ParseLine(words, line); !wrong.empty()) return fail(wrong);
    const auto [known, is_new] = limits.emplace(line.tenant, line.limits);
    if (!is_new && known->second != line.limits) return fail("an earlier line of this name has other limits");
    if (std::any_of(lines.begin(), lines.end(), [&](const Line& other) { return other.digest == line.digest; })) {
      return fail("an earlier line has the same key");
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": has no keys"));
  return lines;
}

}  // namespace

void TenantLoad::SetLimits(const TenantLimits& limits) {
  MutexLock lock(&mutex_);
  limits_ = limits;
}

absl::Status TenantLoad::AddCall() {
  MutexLock lock(&mutex_);
  if (limits_.concurrency > 0 && calls_ >= limits_.concurrency) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this API key has ", calls_, " calls under way; allowed are ", limits_.concurrency));
  }
  ++calls_;
  return absl::OkStatus();
}

absl::Status TenantLoad::AddQueuedTokens(int64_t tokens) {
  MutexLock lock(&mutex_);
  if (limits_.queued_tokens > 0 && tokens > limits_.queued_tokens - queued_tokens_) {
    return absl::ResourceExhaustedError(absl::StrCat("calls of this API key that wait for their first token have ",
                                                     queued_tokens_, " prompt tokens; with ", tokens,
                                                     " more they are over the limit of ", limits_.queued_tokens));
  }
  queued_tokens_ += tokens;
  return absl::OkStatus();
}

void TenantLoad::Remove(int32_t calls, int64_t queued_tokens) {
  MutexLock lock(&mutex_);
  calls_ -= calls;
  queued_tokens_ -= queued_tokens;
}

KeyUse::~KeyUse() {
  if (load_ != nullptr) load_->Remove(1, queued_tokens_);
}

KeyUse::KeyUse(KeyUse&& other) noexcept
    : load_(std::exchange(other.load_, nullptr)), queued_tokens_(std::exchange(other.queued_tokens_, 0)) {}

KeyUse& KeyUse::operator=(KeyUse&& other) noexcept {
  std::swap(load_, other.load_);
  std::swap(queued_tokens_, other.queued_tokens_);
  return *this;
}

absl::Status KeyUse::Queue(int64_t prompt_tokens) {
  if (load_ == nullptr) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(load_->AddQueuedTokens(prompt_tokens));
  queued_tokens_ = prompt_tokens;
  return absl::OkStatus();
}

void KeyUse::Unqueue() {
  if (load_ != nullptr) load_->Remove(0, std::exchange(queued_tokens_, 0));
}

absl::StatusOr<KeyUse> Caller::Begin() const {
  if (load == nullptr) return KeyUse();
  LUKV_RETURN_IF_ERROR(load->AddCall());
  return KeyUse(load);
}

absl::StatusOr<std::unique_ptr<ApiKeys>> ApiKeys::Load(const std::string& path) {
  std::unique_ptr<ApiKeys> keys(new ApiKeys(path));
  MutexLock lock(&keys->mutex_);
  keys->stamp_ = StampOf(path);
  LUKV_RETURN_IF_ERROR(keys->Read());
  return keys;
}

absl::Status ApiKeys::Read() {
  LUKV_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path_, kMaxFileBytes));
  LUKV_ASSIGN_OR_RETURN(const std::vector<Line> lines, ParseFile(path_, text));
  keys_.clear();
  for (const Line& line : lines) {
    std::shared_ptr<TenantLoad>& load = loads_[line.tenant];
    if (load == nullptr) load = std::make_shared<TenantLoad>();
    load->SetLimits(line.limits);
    keys_.push_back({.digest = line.digest, .caller = {.tenant = line.tenant, .load = load}});
  }
  LogInfo(absl::StrCat(path_, ": ", keys_.size(), " API keys"));
  return absl::OkStatus();
}

std::optional<Caller> ApiKeys::Find(std::string_view key) {
  const Sha256Digest digest = Sha256(key);
  MutexLock lock(&mutex_);
  if (const FileStamp stamp = StampOf(path_); stamp != stamp_) {
    stamp_ = stamp;
    if (const absl::Status status = Read(); !status.ok()) {
      LogWarning(absl::StrCat("API keys stay as they were: ", std::string(status.message())));
    }
  }
  // All of them, however early one fits: how long it takes tells nothing.
  const Key* found = nullptr;
  for (const Key& known : keys_) {
    const bool equal = CRYPTO_memcmp(digest.data(), known.digest.data(), digest.size()) == 0;
    found = equal ? &known : found;
  }
  if (found == nullptr) return std::nullopt;
  return found->caller;
}

}  // namespace lukv
