// Requests from their submission to their end. What a step does with them is in engine_step.cc.
#include "engine/engine_core.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/evict/eviction_plan.h"
#include "engine/refusal.h"

namespace lukv {
namespace {

const char* StateName(const LiveRequest& request) {
  switch (request.phase) {
    case LiveRequest::Phase::kWaiting:
      return request.was_admitted() ? "preempted" : "waiting";
    case LiveRequest::Phase::kPrefill:
    case LiveRequest::Phase::kReplay:
      return "prefill";
    case LiveRequest::Phase::kDecode:
      return request.parked_since == absl::InfiniteFuture() ? "decode" : "parked";
  }
  return "";
}

}  // namespace

EngineCore::EngineCore(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options,
                       const Clock& clock)
    : parts_(std::move(parts)), options_(options), end_tokens_(std::move(end_tokens)), clock_(clock) {
  const ModelConfig& config = parts_.model->config;
  info_ = ModelInfo{.config = config,
                    .weight_bytes = parts_.model->weight_bytes,
                    .kv_bytes_per_token = ModelRunner::KvBytesPerToken(config, options_.kv_dtype),
                    .max_context = parts_.runner->options().max_context,
                    .device = parts_.backend->name(),
                    .memory = parts_.memory,
                    .kv_dtype = options_.kv_dtype,
                    .fingerprint = parts_.fingerprint,
                    .min_evicted_context = options_.min_evicted_context};
  for (int32_t slot = options_.max_sequences; slot > 0; --slot) free_slots_.push_back(Slot{slot - 1});
  counters_.pages_total = parts_.runner->pool().total();
  counters_.page_bytes = ModelRunner::PageBytes(config, options_.kv_dtype, options_.page_tokens);
  counters_.layers.assign(static_cast<size_t>(config.n_layers), LayerEntries());
}

EngineCore::~EngineCore() { LUKV_CHECK(requests_.empty()); }

// ---------------------------------------------------------------------------------------------------------------------
// Coming in

absl::StatusOr<std::shared_ptr<const EvictionPlan>> EngineCore::MakePlan(const Policy& policy,
                                                                         int32_t context_tokens) const {
  const bool lukv = !policy.full && policy.allocator == Allocator::kLuKv;
  const BudgetCurve* curve = lukv ? parts_.curves.Get(policy.scorer, policy.sink, policy.window) : nullptr;
  if (lukv && curve == nullptr) {
    // Said for short contexts, too: whether a policy can be honoured does not depend on the prompt.
    return absl::InvalidArgumentError(absl::StrCat(
        "this model has no budget curve for ", ScorerLabel(policy.scorer, policy.sink, policy.window),
        parts_.curves.empty() ? "" : absl::StrCat(" (it has: ", absl::StrJoin(parts_.curves.Labels(), ", "), ")"),
        "; lukv-profile makes one"));
  }
  if (policy.full || context_tokens < options_.min_evicted_context) return nullptr;
  LUKV_ASSIGN_OR_RETURN(EvictionPlan plan,
                        EvictionPlan::Make(policy, context_tokens, parts_.runner->table().geometry(),
                                           ModelRunner::PageBytes(info_.config, options_.kv_dtype, 1), curve));
  if (plan.keeps_all()) return nullptr;
  return std::make_shared<const EvictionPlan>(std::move(plan));
}

void EngineCore::Submit(Ticket ticket, ValidRequest request, std::shared_ptr<Outbox> outbox) {
  auto live = std::make_unique<LiveRequest>();
  live->ticket = ticket;
  live->request = std::move(request);
  live->outbox = std::move(outbox);
  live->submitted = clock_.Now();
  live->standing = live->submitted - live->request.priority * options_.priority_ageing;
  ValidRequest& valid = live->request;
  // With nothing behind the context, whoever comes next could not start from it.
  const bool usable = live->context_only() ||
                      (valid.shared_context.has_value() && valid.shared_context->n_tokens < live->prompt_tokens());
  if (!usable) valid.shared_context.reset();
  live->UseOwnContext();
  if (valid.shared_context.has_value()) {
    live->context_key = {.tenant = valid.tenant,
                         .policy = PlanPolicyName(live->plan.get()),
                         .tokens = {valid.prompt.begin(), valid.prompt.begin() + live->context_tokens}};
  }
  live->end_ids = valid.stop_ids;
  if (!valid.ignore_eos) live->end_ids.insert(live->end_ids.end(), end_tokens_.begin(), end_tokens_.end());
  for (int32_t s = 0; s < valid.n; ++s) {
    live->samples.push_back(
        {.index = s, .sampler = Sampler(valid.sampling, valid.prompt, s, valid.min_tokens, live->end_ids)});
  }
  live->usage.prompt_tokens = live->prompt_tokens();

  absl::Status refused = CheckFits(*live);
  if (refused.ok()) refused = CheckQueue(*live);
  if (!refused.ok()) {
    SendDone(*live->outbox, refused, live->usage);
    return;
  }
  ++new_requests_;
  new_tokens_ += live->prompt_tokens();
  if (live->context_only()) {
    pages_pinned_ahead_ += parts_.runner->PagesToOpen(live->plan.get(), live->context_tokens, 0);
  }
  waiting_.insert(live.get());
  requests_.emplace(ticket, std::move(live));
}

absl::Status EngineCore::CheckFits(const LiveRequest& live) const {
  const ValidRequest& request = live.request;
  // The last token is never fed back, so it needs no entry.
  const int32_t question = live.question_tokens();
  const int32_t after = question + std::max(0, request.max_tokens - 1);
  const ModelRunner& runner = *parts_.runner;
  const uint64_t pages = runner.PagesToOpen(live.plan.get(), live.context_tokens, after) +
                         uint64_t{runner.PagesToFork(live.plan.get(), live.context_tokens, question, after)} *
                             static_cast<uint64_t>(request.n - 1);
  if (pages > counters_.pages_total) {
    return Refused(Refusal::kNeverFits,
                   absl::StrCat("the request can never fit: ", request.n, " x (", request.prompt.size(), " prompt + ",
                                request.max_tokens, " output tokens",
                                live.plan == nullptr ? ""
                                                     : absl::StrCat(", of which ", PolicyName(live.plan->policy()),
                                                                    " compresses ", live.plan->n_tokens()),
                                ") need ", pages, " KV pages, the server has ", counters_.pages_total));
  }
  if (request.n > options_.max_sequences) {
    return Refused(Refusal::kNeverFits,
                   absl::StrCat("the request can never fit: ", request.n, " samples, the server runs at most ",
                                options_.max_sequences, " sequences"));
  }
  return absl::OkStatus();
}

absl::Status EngineCore::CheckQueue(const LiveRequest& live) const {
  if (new_requests_ >= options_.max_queued_requests) {
    return Refused(Refusal::kQueueFull,
                   absl::StrCat(new_requests_, " requests are waiting, at most ", options_.max_queued_requests, " may"),
                   RetryDelay());
  }
  // One that is alone may be of any length.
  if (new_requests_ > 0 && new_tokens_ + live.prompt_tokens() > options_.max_queued_tokens) {
    return Refused(Refusal::kQueueFull,
                   absl::StrCat(new_tokens_, " tokens are waiting and the request has ", live.prompt_tokens(),
                                ", together at most ", options_.max_queued_tokens, " may"),
                   RetryDelay());
  }
  if (live.context_only() && !cache_.HasContext(live.context_key)) {
    const auto limit = static_cast<int64_t>(options_.max_pinned_contexts * counters_.pages_total);
    const int64_t pages = parts_.runner->PagesToOpen(live.plan.get(), live.context_tokens, 0);
    const int64_t pinned = cache_.CountPages().pinned + pages_pinned_ahead_;
    if (pinned + pages > limit) {
      return Refused(Refusal::kPinnedFull,
                     absl::StrCat("the context needs ", pages, " KV pages; contexts hold ", pinned, ", at most ", limit,
                                  " may be held by them"),
                     RetryDelay());
    }
  }
  return absl::OkStatus();
}

// Time that `tokens` of a prompt take if nothing else runs. Zero until that is known.
absl::Duration EngineCore::PrefillEstimate(double tokens) const {
  return info_.config.n_layers *
         cost_.Expect({.kind = Work::Kind::kContext, .rows = tokens, .entries = tokens * tokens / 2});
}

absl::Duration EngineCore::RetryDelay() const {
  const absl::Duration queue =
      info_.config.n_layers * cost_.Expect({.kind = Work::Kind::kContext, .rows = static_cast<double>(new_tokens_)});
  return std::clamp(queue, absl::Seconds(1), absl::Minutes(1));
}

void EngineCore::Cancel(Ticket ticket) {
  if (const auto found = requests_.find(ticket); found != requests_.end()) {
    End(*found->second, absl::CancelledError("cancelled by the client"));
  }
}

void EngineCore::Finish(Ticket ticket, int32_t sample_index, int32_t tokens) {
  const auto found = requests_.find(ticket);
  if (found == requests_.end()) return;
  LiveRequest& request = *found->second;
  for (LiveSample& sample : request.samples) {
    if (sample.index != sample_index || sample.finished || sample.output.empty()) continue;
    if (request.phase == LiveRequest::Phase::kPrefill || request.phase == LiveRequest::Phase::kReplay) {
      sample.stop_at = tokens;  // Units under way write into its pages.
      continue;
    }
    sample.stop_at = tokens;
    StopAt(request, sample);
  }
  if (request.unfinished() == 0) End(request, absl::OkStatus());
}

void EngineCore::StopAt(LiveRequest& request, LiveSample& sample) {
  sample.output.resize(std::min(sample.output.size(), static_cast<size_t>(std::max(sample.stop_at, 0))));
  FinishSample(request, sample, FinishReason::kStop, -1);
}

bool EngineCore::ReleaseContext(const ContextKey& key) { return cache_.DropContext(key); }

// ---------------------------------------------------------------------------------------------------------------------
// Time

absl::Time EngineCore::ExpiryOf(const LiveRequest& request) const {
  absl::Time expiry = request.request.deadline;
  if (!request.was_admitted()) expiry = std::min(expiry, request.submitted + options_.queue_timeout);
  return std::min(expiry, request.parked_since + options_.slow_client_timeout);
}

absl::Time EngineCore::NextWake() const {
  absl::Time wake = cache_.next_expiry();
  for (const auto& [ticket, request] : requests_) wake = std::min(wake, ExpiryOf(*request));
  return wake;
}

void EngineCore::Expire() {
  const absl::Time now = clock_.Now();
  cache_.Expire(now);
  std::vector<std::pair<LiveRequest*, absl::Status>> over;
  for (const auto& [ticket, request] : requests_) {
    if (request->request.deadline <= now) {
      over.emplace_back(request.get(), absl::DeadlineExceededError("the request's deadline has passed"));
    } else if (!request->was_admitted() && request->submitted + options_.queue_timeout <= now) {
      over.emplace_back(request.get(),
                        Refused(Refusal::kQueueTimeout,
                                absl::StrCat("the request waited for ", absl::FormatDuration(options_.queue_timeout),
                                             ", as long as one may"),
                                RetryDelay()));
    } else if (request->parked_since + options_.slow_client_timeout <= now) {
      over.emplace_back(request.get(), Refused(Refusal::kSlowClient,
                                               absl::StrCat("nobody took the request's tokens for ",
                                                            absl::FormatDuration(options_.slow_client_timeout))));
    } else if (!request->was_admitted() && request->request.deadline != absl::InfiniteFuture()) {
      // At the least: what may be cached is taken to be.
      const bool cacheable = request->request.shared_context.has_value() || !request->request.conversation.empty();
      const absl::Duration prefill = PrefillEstimate(cacheable ? 1 : request->prompt_tokens());
      if (now + prefill < request->request.deadline) continue;
      over.emplace_back(request.get(), Refused(Refusal::kDeadline,
                                               absl::StrCat("the deadline is in ",
                                                            absl::FormatDuration(request->request.deadline - now),
                                                            ", and the prompt takes ", absl::FormatDuration(prefill)),
                                               RetryDelay()));
    }
  }
  // In order of arrival, whatever the order of the map.
  std::sort(over.begin(), over.end(), [](const auto& a, const auto& b) { return a.first->ticket < b.first->ticket; });
  for (auto& [request, status] : over) End(*request, status);
}

// ---------------------------------------------------------------------------------------------------------------------
// Ending

void EngineCore::SendDone(Outbox& outbox, const absl::Status& status, const Usage& usage) {
  outbox.SetOnSpace(nullptr);
  outbox.Push(DoneEvent{.status = status, .usage = usage});
}

void EngineCore::FinishSample(LiveRequest& request, LiveSample& sample, FinishReason reason, TokenId stop_token) {
  if (sample.open && !request.request.conversation.empty()) KeepConversation(request, sample);
  sample.finished = true;
  ReleaseSample(request, sample, /*count=*/true);
  request.outbox->Push(FinishEvent{.sample = sample.index, .reason = reason, .stop_token = stop_token});
}

void EngineCore::KeepConversation(const LiveRequest& request, const LiveSample& sample) {
  if (!options_.share_contexts) return;
  // Not the output: its entries are those of decode steps, and a next turn that is preempted and finds them gone could
  // not make the same ones of its prompt. As a part of that prompt the output is computed soon enough.
  Turn turn{.tokens = request.request.prompt,
            .context_tokens = request.context_tokens,
            .plan = request.plan,
            .pages = parts_.runner->table().Share(sample.slot, request.question_tokens())};
  cache_.PutConversation(request.request.tenant, request.request.conversation, std::move(turn));
}

void EngineCore::CountUsage(LiveRequest& request, const LiveSample& sample) {
  const HeadPageTable& table = parts_.runner->table();
  Usage& usage = request.usage;
  const int64_t entries = request.context_tokens + table.generated(sample.slot);
  usage.kv_bytes_full += entries * info_.kv_bytes_per_token;
  usage.kv_bytes_resident += table.pages_held(sample.slot) * counters_.page_bytes;
  for (const SharedPages* shared = table.shared(sample.slot).get(); shared != nullptr; shared = shared->base().get()) {
    std::vector<const void*>& seen = request.shared_seen;
    if (std::find(seen.begin(), seen.end(), shared) != seen.end()) break;
    seen.push_back(shared);
    usage.kv_bytes_resident += shared->own_pages() * counters_.page_bytes;
  }
}

void EngineCore::ReleaseSample(LiveRequest& request, LiveSample& sample, bool count) {
  if (!sample.open) return;
  HeadPageTable& table = parts_.runner->table();
  if (table.in_use(sample.slot)) {
    if (count) CountUsage(request, sample);
    table.Release(sample.slot);
  }
  free_slots_.push_back(sample.slot);
  sample.open = false;
  if (!request.layer_kept.empty()) CountLayers(request, -1);
  if (request.phase == LiveRequest::Phase::kDecode) Recommit(request);
}

// What its open samples hold and may come to hold.
void EngineCore::Recommit(LiveRequest& request) {
  uint32_t pages = 0;
  for (const LiveSample& sample : request.samples) {
    if (!sample.open) continue;
    pages += parts_.runner->table().OwnPages(sample.slot, request.question_tokens() + sample.reserved);
  }
  committed_ += pages - request.committed;
  request.committed = pages;
}

void EngineCore::CountLayers(const LiveRequest& request, int32_t samples) {
  for (size_t layer = 0; layer < request.layer_kept.size(); ++layer) {
    LayerEntries& entries = counters_.layers[layer];
    entries.full += int64_t{samples} * request.usage.context_tokens * info_.config.n_kv_heads;
    entries.kept += samples * request.layer_kept[layer];
  }
}

void EngineCore::Leave(LiveRequest& request) {
  for (auto group = groups_.begin(); group != groups_.end();) {
    for (size_t prompt = 0; prompt < (*group)->requests.size(); ++prompt) {
      if ((*group)->requests[prompt] != &request) continue;
      (*group)->requests[prompt] = nullptr;
      (*group)->group.Drop(prompt);
    }
    group = (*group)->group.empty() ? groups_.erase(group) : std::next(group);
  }
  committed_ -= request.committed;
  full_pages_ -= request.full_pages;
  request.committed = 0;
  request.full_pages = 0;
}

void EngineCore::End(LiveRequest& live, const absl::Status& status) {
  const std::unique_ptr<LiveRequest> request = std::move(requests_.at(live.ticket));
  requests_.erase(request->ticket);
  if (waiting_.erase(request.get()) > 0 && !request->was_admitted()) {
    --new_requests_;
    new_tokens_ -= request->prompt_tokens();
    request->usage.queue = clock_.Now() - request->submitted;
  }
  if (request->context_only()) {
    pages_pinned_ahead_ -= parts_.runner->PagesToOpen(request->plan.get(), request->context_tokens, 0);
  }
  running_.erase(request.get());
  for (LiveSample& sample : request->samples) {
    ReleaseSample(*request, sample, /*count=*/true);
    request->usage.generated_tokens += static_cast<int32_t>(sample.output.size());
  }
  Leave(*request);
  if (request->first_token != absl::InfinitePast()) {
    request->usage.first_token = request->first_token - request->submitted;
    request->usage.decode = request->last_token - request->first_token;
  }
  SendDone(*request->outbox, status, request->usage);
}

void EngineCore::EndAdmitted(const absl::Status& status) {
  while (!running_.empty()) End(**running_.begin(), status);
}

void EngineCore::EndAll(const absl::Status& status) {
  EndAdmitted(status);
  while (!waiting_.empty()) End(**waiting_.begin(), status);
  cache_.Clear();
}

// ---------------------------------------------------------------------------------------------------------------------
// Reports

EngineStats EngineCore::Stats() const {
  EngineStats stats = counters_;
  stats.waiting = static_cast<int32_t>(waiting_.size());
  for (const LiveRequest* request : waiting_) stats.waiting_tokens += request->prompt_tokens();
  for (const LiveRequest* request : running_) {
    const bool parked = request->parked_since != absl::InfiniteFuture();
    for (const LiveSample& sample : request->samples) {
      if (!sample.open) continue;
      ++stats.running;
      if (parked) ++stats.parked;
      const auto output = static_cast<int64_t>(sample.output.size());
      stats.kv_bytes_full += (request->prompt_tokens() + std::max<int64_t>(output - 1, 0)) * info_.kv_bytes_per_token;
    }
  }
  const PagePool& pool = parts_.runner->pool();
  const ContextCache::Pages cached = cache_.CountPages();
  stats.contexts = cache_.size();
  stats.pages_contexts = pool.used_by(PageOwner::kContext);
  stats.pages_reclaimable = cached.reclaimable;
  stats.pages_used = pool.used() - cached.reclaimable;
  stats.kv_bytes_resident = int64_t{pool.used() - cached.idle} * stats.page_bytes;
  return stats;
}

std::vector<RequestRow> EngineCore::Requests() const {
  std::vector<RequestRow> rows;
  const auto add = [&](const LiveRequest* request) {
    rows.push_back({.id = request->request.id,
                    .tenant = request->request.tenant,
                    .state = StateName(*request),
                    .priority = request->request.priority,
                    .prompt_tokens = request->prompt_tokens(),
                    .samples = request->request.n,
                    .pages = request->committed,
                    .policy = PlanPolicyName(request->plan.get()),
                    .submitted = request->submitted});
    for (const LiveSample& sample : request->samples) {
      rows.back().generated_tokens += static_cast<int32_t>(sample.output.size());
    }
  };
  for (const LiveRequest* request : running_) add(request);
  for (const LiveRequest* request : waiting_) add(request);
  return rows;
}

}  // namespace lukv
