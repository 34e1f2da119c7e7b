// API keys: whose call it is, and how much a tenant may have under way.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/mutex.h"
#include "base/sha256.h"

namespace lukv {

struct TenantLimits {
  int32_t concurrency = 0;    // Calls at once, waiting or running; 0: any number.
  int64_t queued_tokens = 0;  // Prompt tokens of calls that wait for their first token; 0: any number.

  friend bool operator==(const TenantLimits&, const TenantLimits&) = default;
};

// What a tenant has under way. Any thread may call any method.
class TenantLoad {
 public:
  void SetLimits(const TenantLimits& limits);
  // RESOURCE_EXHAUSTED with the limit.
  absl::Status AddCall();
  absl::Status AddQueuedTokens(int64_t tokens);
  void Remove(int32_t calls, int64_t queued_tokens);

 private:
  Mutex mutex_;
  TenantLimits limits_ ABSL_GUARDED_BY(mutex_);
  int32_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t queued_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What one call takes of its tenant's limits; gives it back when it goes. Not to be used by two threads at once.
class KeyUse {
 public:
  KeyUse() = default;  // Of a call without a key: counts nothing.
  ~KeyUse();
  KeyUse(KeyUse&& other) noexcept;
  KeyUse& operator=(KeyUse&& other) noexcept;

  // Once. RESOURCE_EXHAUSTED with the limit: KEY_LIMIT of inference.proto.
  absl::Status Queue(int64_t prompt_tokens);
  // The first token is there. Idempotent.
  void Unqueue();

 private:
  friend struct Caller;
  explicit KeyUse(std::shared_ptr<TenantLoad> load) : load_(std::move(load)) {}

  std::shared_ptr<TenantLoad> load_;
  int64_t queued_tokens_ = 0;
};

struct Caller {
  std::string tenant;                // "": a server without keys knows no tenants.
  std::shared_ptr<TenantLoad> load;  // Null: no limits.

  // One more call. RESOURCE_EXHAUSTED with the limit: KEY_LIMIT of inference.proto.
  absl::StatusOr<KeyUse> Begin() const;
};

// The keys of a file, of which only hashes are known. Its lines:
//   NAME SHA256 [concurrency=N] [queued-tokens=N]
// NAME is the tenant: 1 to 64 of A-Z a-z 0-9 . _ -; SHA256 are 64 hexadecimal digits. Lines with the same name are
// several keys of one tenant, with the same limits. Empty lines and what follows a # are skipped. No salt: keys are
// random, not words that somebody could try.
// Any thread may call any method.
class ApiKeys {
 public:
  // Errors begin with the path, and the line where there is one; they never contain what stands in it.
  static absl::StatusOr<std::unique_ptr<ApiKeys>> Load(const std::string& path);

  // Nothing: no such key. A file that was replaced counts from the next call on; if it is broken, the keys stay as they
  // were, and the log has one warning.
  std::optional<Caller> Find(std::string_view key);

 private:
  struct Key {
    Sha256Digest digest;
    Caller caller;
  };

  explicit ApiKeys(std::string path) : path_(std::move(path)) {}
  absl::Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  Mutex mutex_;
  FileStamp stamp_ ABSL_GUARDED_BY(mutex_);
  std::vector<Key> keys_ ABSL_GUARDED_BY(mutex_);
  // Also of tenants that are no longer in the file: their calls may still run, and they may come back.
  std::map<std::string, std::shared_ptr<TenantLoad>> loads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
