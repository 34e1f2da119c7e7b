// The contexts that callers made with CreateContext: what an id stands for. Their pages are the engine's business.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/evict/eviction_plan.h"
#include "engine/kv/context_cache.h"

namespace lukv {

struct StoredContext {
  ContextKey key;
  std::shared_ptr<const EvictionPlan> plan;
  std::string policy;  // That was asked for; key.policy is "full" for a context that is too short to be compressed.
  absl::Time expiry;
};

// Any thread may call any method. An id is a tenant's own.
class ContextDirectory {
 public:
  static constexpr size_t kMaxPerTenant = 10'000;

  // ALREADY_EXISTS: the id stands for a context, or for one that is being computed. RESOURCE_EXHAUSTED: the tenant has
  // too many. Afterwards the id is taken until Remove or the context's expiry.
  absl::Status Reserve(const std::string& id, StoredContext context);
  // It is there.
  void Ready(const std::string& tenant, const std::string& id);
  // Null: there is none, or not yet, or not any more.
  std::shared_ptr<const StoredContext> Find(const std::string& tenant, const std::string& id);
  // The same, and the id is free.
  std::shared_ptr<const StoredContext> Remove(const std::string& tenant, const std::string& id);

 private:
  struct Entry {
    std::shared_ptr<const StoredContext> context;
    bool ready = false;
  };
  using Ids = std::map<std::string, Entry>;
  static void DropExpired(Ids& ids);

  Mutex mutex_;
  std::map<std::string, Ids> tenants_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
