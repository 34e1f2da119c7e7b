#include "server/context_directory.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lukv {

void ContextDirectory::DropExpired(Ids& ids) {
  const absl::Time now = absl::Now();
  std::erase_if(ids, [now](const auto& id) { return id.second.ready && id.second.context->expiry <= now; });
}

absl::Status ContextDirectory::Reserve(const std::string& id, StoredContext context) {
  MutexLock lock(&mutex_);
  Ids& ids = tenants_[context.key.tenant];
  DropExpired(ids);
  if (ids.contains(id)) return absl::AlreadyExistsError(absl::StrCat("a context with context_id ", id, " exists"));
  if (ids.size() >= kMaxPerTenant) {
    return absl::ResourceExhaustedError(absl::StrCat("there are ", ids.size(), " contexts, no more are allowed"));
  }
  ids.emplace(id, Entry{.context = std::make_shared<StoredContext>(std::move(context))});
  return absl::OkStatus();
}

void ContextDirectory::Ready(const std::string& tenant, const std::string& id) {
  MutexLock lock(&mutex_);
  Ids& ids = tenants_[tenant];
  if (const auto found = ids.find(id); found != ids.end()) found->second.ready = true;
}

std::shared_ptr<const StoredContext> ContextDirectory::Find(const std::string& tenant, const std::string& id) {
  MutexLock lock(&mutex_);
  Ids& ids = tenants_[tenant];
  DropExpired(ids);
  const auto found = ids.find(id);
  return found != ids.end() && found->second.ready ? found->second.context : nullptr;
}

std::shared_ptr<const StoredContext> ContextDirectory::Remove(const std::string& tenant, const std::string& id) {
  MutexLock lock(&mutex_);
  Ids& ids = tenants_[tenant];
  DropExpired(ids);
  const auto found = ids.find(id);
  if (found == ids.end()) return nullptr;
  std::shared_ptr<const StoredContext> context = found->second.ready ? found->second.context : nullptr;
  ids.erase(found);
  return context;
}

}  // namespace lukv
