#include "tests/server/fake_engine.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "engine/refusal.h"

namespace lukv {
namespace {

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

FakeEngine::FakeEngine(std::vector<TokenId> end_tokens, Script script)
    : end_tokens_(std::move(end_tokens)), script_(std::move(script)) {
  info_.config.architecture = "llama";
  info_.config.context_length = 2 * kMaxContext;
  info_.config.n_layers = 2;
  info_.config.n_heads = 6;
  info_.config.n_kv_heads = 3;
  info_.config.head_dim = 64;
  info_.weight_bytes = 12345;
  info_.kv_bytes_per_token = 1536;
  info_.max_context = kMaxContext;
  info_.device = "fake";
  info_.fingerprint = "fake-fingerprint";
  info_.min_evicted_context = kMinEvictedContext;
  thread_ = std::thread([this] { Run(); });
}

FakeEngine::~FakeEngine() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

absl::StatusOr<std::shared_ptr<const EvictionPlan>> FakeEngine::Plan(const Policy& policy, int32_t context_tokens) {
  if (policy.full) return nullptr;
  if (policy.allocator == Allocator::kLuKv) return absl::InvalidArgumentError("no budget curve");
  if (context_tokens < kMinEvictedContext) return nullptr;
  const KvGeometry geometry{.n_layers = 2, .n_kv_heads = 2, .page_tokens = 4};
  absl::StatusOr<EvictionPlan> plan = EvictionPlan::Make(policy, context_tokens, geometry, 8, nullptr);
  if (!plan.ok()) return plan.status();
  return std::make_shared<const EvictionPlan>(*std::move(plan));
}

Ticket FakeEngine::Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) {
  outbox->SetOnSpace([this] {
    MutexLock lock(&mutex_);
    for (auto& [ticket, parked] : requests_) parked.parked = false;
  });
  MutexLock lock(&mutex_);
  if (!refuse_next_.ok()) {
    outbox->Push(DoneEvent{.status = std::exchange(refuse_next_, absl::OkStatus())});
    return next_ticket_++;
  }
  Request entry{.request = std::move(request), .outbox = std::move(outbox)};
  for (int32_t i = 0; i < entry.request.n; ++i) entry.samples.push_back({.script = script_(entry.request, i)});
  requests_.emplace(next_ticket_, std::move(entry));
  return next_ticket_++;
}

void FakeEngine::Cancel(Ticket ticket) {
  MutexLock lock(&mutex_);
  if (auto found = requests_.find(ticket); found != requests_.end()) found->second.cancelled = true;
}

void FakeEngine::GiveUpParked() {
  MutexLock lock(&mutex_);
  for (auto& [ticket, request] : requests_) request.given_up = request.parked;
}

void FakeEngine::Finish(Ticket ticket, int32_t sample, int32_t tokens) {
  MutexLock lock(&mutex_);
  auto found = requests_.find(ticket);
  if (found == requests_.end() || found->second.samples[sample].finished) return;
  Sample& ended = found->second.samples[sample];
  ended.finished = true;
  ended.made = std::min(ended.made, tokens);
  found->second.outbox->Push(FinishEvent{.sample = sample, .reason = FinishReason::kStop});
}

EngineStats FakeEngine::Stats() const {
  MutexLock lock(&mutex_);
  const auto running = static_cast<int32_t>(requests_.size());
  EngineStats stats = stats_;
  stats.running = running;
  stats.pages_total = 100;
  stats.pages_used += static_cast<uint32_t>(running) * kPagesPerRequest;
  stats.generated_tokens = tokens_made_;
  return stats;
}

void FakeEngine::SetStats(EngineStats stats) {
  MutexLock lock(&mutex_);
  stats_ = std::move(stats);
}

void FakeEngine::SetGate(bool open) {
  MutexLock lock(&mutex_);
  open_ = open;
}

void FakeEngine::RefuseNext(absl::Status status) {
  MutexLock lock(&mutex_);
  refuse_next_ = std::move(status);
}

bool FakeEngine::WaitUntilParkedOr(int64_t tokens) {
  const auto parked = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !requests_.empty() &&
           std::all_of(requests_.begin(), requests_.end(), [](const auto& entry) { return entry.second.parked; });
  };
  const auto condition = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return tokens_made_ >= tokens || parked(); };
  MutexLock lock(&mutex_);
  mutex_.Await(condition);
  return parked();
}

int64_t FakeEngine::tokens_made() const {
  MutexLock lock(&mutex_);
  return tokens_made_;
}

bool FakeEngine::Runnable() const {
  return std::any_of(requests_.begin(), requests_.end(), [this](const auto& entry) {
    return entry.second.cancelled || entry.second.given_up || (open_ && !entry.second.parked);
  });
}

void FakeEngine::Run() {
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_ || Runnable(); };
  MutexLock lock(&mutex_);
  while (true) {
    absl::Time deadline = absl::InfiniteFuture();
    for (const auto& [ticket, request] : requests_) deadline = std::min(deadline, request.request.deadline);
    mutex_.AwaitWithDeadline(wake, deadline);
    for (auto it = requests_.begin(); it != requests_.end();) {
      if (stop_) it->second.cancelled = true;
      it = Step(it->second) ? requests_.erase(it) : std::next(it);
    }
    if (stop_) return;
  }
}

bool FakeEngine::Step(Request& request) {
  if (request.cancelled) {
    End(request, absl::CancelledError("cancelled"));
    return true;
  }
  if (request.given_up) {
    End(request, Refused(Refusal::kSlowClient, "nobody takes the tokens"));
    return true;
  }
  if (request.request.deadline <= absl::Now()) {
    End(request, absl::DeadlineExceededError("the deadline has passed"));
    return true;
  }
  if (!open_ || request.parked) return false;
  if (!request.outbox->HasSpace(request.samples.size())) {
    request.parked = true;
    return false;
  }
  for (size_t i = 0; i < request.samples.size(); ++i) {
    Sample& sample = request.samples[i];
    if (sample.finished) continue;
    const auto index = static_cast<int32_t>(i);
    const ValidRequest& asked = request.request;
    const TokenId token = sample.script[sample.made++];
    ++tokens_made_;
    TokenEvent event{.sample = index, .token = token};
    if (asked.logprobs) {
      event.logprob = -0.5f;
      for (int32_t a = 0; a < asked.top_logprobs; ++a) {
        event.alternatives.push_back({.token = a, .logprob = -1.0f - static_cast<float>(a)});
      }
    }
    request.outbox->Push(event);
    const bool stop = Contains(asked.stop_ids, token) || (!asked.ignore_eos && Contains(end_tokens_, token));
    const bool full = sample.made == asked.max_tokens || sample.made == static_cast<int32_t>(sample.script.size());
    if (!stop && !full) continue;
    sample.finished = true;
    request.outbox->Push(FinishEvent{.sample = index,
                                     .reason = stop ? FinishReason::kStop : FinishReason::kLength,
                                     .stop_token = stop ? token : -1});
  }
  if (!std::all_of(request.samples.begin(), request.samples.end(), [](const Sample& s) { return s.finished; })) {
    return false;
  }
  End(request, absl::OkStatus());
  return true;
}

void FakeEngine::End(Request& request, const absl::Status& status) {
  Usage usage;
  usage.prompt_tokens = static_cast<int32_t>(request.request.prompt.size());
  for (const Sample& sample : request.samples) usage.generated_tokens += sample.made;
  usage.cached_tokens = kCachedTokens;
  usage.kv_bytes_full = 1000;
  usage.kv_bytes_resident = 500;
  usage.queue = absl::Seconds(1);
  usage.prefill = absl::Seconds(2);
  usage.first_token = absl::Seconds(3);
  usage.decode = absl::Seconds(4);
  if (request.request.plan != nullptr) {
    usage.context_tokens = request.request.plan->n_tokens();
    usage.kept = {{.min = 1, .mean = 2.5f, .max = 4}, {.min = 5, .mean = 6, .max = 7}};
    usage.eviction = absl::Seconds(5);
  }
  request.outbox->SetOnSpace(nullptr);
  request.outbox->Push(DoneEvent{.status = status, .usage = usage});
}

}  // namespace lukv
