#include "engine/engine_loop.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/evict/eviction_plan.h"
#include "engine/refusal.h"

namespace lukv {
namespace {

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

absl::Status NeverFits(const std::string& sums) {
  return Refused(Refusal::kNeverFits, absl::StrCat("the request can never fit: ", sums));
}

}  // namespace

bool EngineLoop::Request::finished() const {
  return prefilled && std::all_of(samples.begin(), samples.end(), [](const Sample& s) { return s.finished; });
}

EngineLoop::EngineLoop(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options)
    : parts_(std::move(parts)),
      options_(options),
      end_tokens_(std::move(end_tokens)),
      mailbox_(std::make_shared<Mailbox>()) {
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
  PublishStats();
  thread_ = std::thread([this] { Run(); });
}

EngineLoop::~EngineLoop() {
  {
    MutexLock lock(&mailbox_->mutex);
    mailbox_->inbox.stop = true;
  }
  thread_.join();
}

// ---------------------------------------------------------------------------------------------------------------------
// Called from any thread.

Ticket EngineLoop::Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) {
  auto entry = std::make_unique<Request>();
  entry->request = std::move(request);
  entry->outbox = outbox;
  entry->submitted = absl::Now();
  entry->pages_per_sample = PagesPerSample(entry->request);
  entry->usage.prompt_tokens = static_cast<int32_t>(entry->request.prompt.size());
  if (entry->request.plan != nullptr) entry->usage.context_tokens = entry->request.plan->n_tokens();
  const Usage usage = entry->usage;
  absl::Status refused = CheckFits(*entry);
  outbox->SetOnSpace([mailbox = mailbox_] {
    MutexLock lock(&mailbox->mutex);
    mailbox->inbox.space = true;
  });
  Ticket ticket;
  {
    MutexLock lock(&mailbox_->mutex);
    ticket = mailbox_->next_ticket++;
    entry->ticket = ticket;
    if (refused.ok() && mailbox_->queued >= options_.max_queued_requests) {
      refused = Refused(
          Refusal::kQueueFull,
          absl::StrCat(mailbox_->queued, " requests are waiting, at most ", options_.max_queued_requests, " may"),
          absl::Seconds(1));
    }
    if (refused.ok()) {
      ++mailbox_->queued;
      mailbox_->inbox.submitted.push_back(std::move(entry));
    }
  }
  if (!refused.ok()) SendDone(*outbox, refused, usage);
  return ticket;
}

void EngineLoop::Cancel(Ticket ticket) {
  MutexLock lock(&mailbox_->mutex);
  mailbox_->inbox.cancelled.push_back(ticket);
}

void EngineLoop::Finish(Ticket ticket, int32_t sample, int32_t tokens) {
  MutexLock lock(&mailbox_->mutex);
  mailbox_->inbox.finished.push_back({.ticket = ticket, .sample = sample, .tokens = tokens});
}

absl::StatusOr<std::shared_ptr<const EvictionPlan>> EngineLoop::MakePlan(const Policy& policy,
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

EngineStats EngineLoop::Stats() const {
  MutexLock lock(&mailbox_->mutex);
  EngineStats stats = mailbox_->stats;
  stats.waiting = mailbox_->queued;
  return stats;
}

uint32_t EngineLoop::PagesPerSample(const ValidRequest& request) const {
  // The last token is never fed back, so it needs no entry.
  const int32_t context = request.plan != nullptr ? request.plan->n_tokens() : 0;
  const int32_t after = static_cast<int32_t>(request.prompt.size()) - context + request.max_tokens - 1;
  return parts_.runner->PagesToOpen(request.plan.get(), context, after);
}

absl::Status EngineLoop::CheckFits(const Request& request) const {
  const uint64_t pages = uint64_t{request.pages_per_sample} * static_cast<uint64_t>(request.request.n);
  const uint32_t total = parts_.runner->pool().total();
  if (pages > total) {
    return NeverFits(absl::StrCat(request.request.n, " x (", request.request.prompt.size(), " prompt + ",
                                  request.request.max_tokens, " output tokens",
                                  request.request.plan == nullptr
                                      ? ""
                                      : absl::StrCat(", of which ", PolicyName(request.request.plan->policy()),
                                                     " compresses ", request.request.plan->n_tokens()),
                                  ") need ", pages, " KV pages, the server has ", total));
  }
  if (request.request.n > options_.max_sequences) {
    return NeverFits(
        absl::StrCat(request.request.n, " samples, the server runs at most ", options_.max_sequences, " sequences"));
  }
  return absl::OkStatus();
}

void EngineLoop::SendDone(Outbox& outbox, const absl::Status& status, const Usage& usage) {
  outbox.SetOnSpace(nullptr);
  outbox.Push(DoneEvent{.status = status, .usage = usage});
}

// ---------------------------------------------------------------------------------------------------------------------
// The loop.

void EngineLoop::Run() {
  bool idle = true;
  while (true) {
    Inbox inbox = WaitForInbox(idle);
    const bool stop = inbox.stop;
    Intake(std::move(inbox));
    ExpireDeadlines();
    if (stop) break;

    const StepPlan plan = MakePlan();
    idle = plan.idle();
    if (!idle) {
      Admit(plan.admit);
      absl::Status status = plan.prefill_unit ? RunPrefillUnit() : absl::OkStatus();
      if (status.ok() && plan.decode) status = RunDecode();
      if (!status.ok()) EndAdmittedWith(absl::InternalError(absl::StrCat("step failed: ", status.ToString())));
      ++counters_.steps;
    }
    SweepFinished();
    PublishStats();
  }
  const absl::Status stopped = absl::CancelledError("the server stops");
  EndAdmittedWith(stopped);
  while (!waiting_.empty()) End(waiting_.front()->ticket, stopped);
  PublishStats();
}

// Takes over what other threads asked for. Waits for something to come, or for the next deadline, if there is no work.
EngineLoop::Inbox EngineLoop::WaitForInbox(bool idle) {
  absl::Time wake = absl::InfiniteFuture();
  for (const RequestPtr& request : waiting_) wake = std::min(wake, request->request.deadline);
  for (const auto& [ticket, request] : admitted_) wake = std::min(wake, request->request.deadline);
  MutexLock lock(&mailbox_->mutex);
  if (idle) {
    Inbox& waiting_for = mailbox_->inbox;
    mailbox_->mutex.AwaitWithDeadline([&] { return !waiting_for.empty(); }, wake);
  }
  return std::exchange(mailbox_->inbox, Inbox());
}

void EngineLoop::Intake(Inbox inbox) {
  for (RequestPtr& request : inbox.submitted) {
    request->end_ids = request->request.stop_ids;
    if (!request->request.ignore_eos) {
      request->end_ids.insert(request->end_ids.end(), end_tokens_.begin(), end_tokens_.end());
    }
    waiting_.push_back(std::move(request));
  }
  for (const Ticket ticket : inbox.cancelled) End(ticket, absl::CancelledError("cancelled by the client"));
  for (const FinishCommand& command : inbox.finished) {
    const auto found = admitted_.find(command.ticket);
    if (found == admitted_.end()) continue;
    Request& request = *found->second;
    for (Sample& sample : request.samples) {
      if (sample.index != command.sample || sample.finished || !request.prefilled) continue;
      sample.generated = std::min(sample.generated, command.tokens);
      FinishSample(request, sample, FinishReason::kStop, -1);
    }
  }
  SweepFinished();
}

void EngineLoop::ExpireDeadlines() {
  const absl::Time now = absl::Now();
  std::vector<Ticket> expired;
  for (const RequestPtr& request : waiting_) {
    if (request->request.deadline <= now) expired.push_back(request->ticket);
  }
  for (const auto& [ticket, request] : admitted_) {
    if (request->request.deadline <= now) expired.push_back(ticket);
  }
  for (const Ticket ticket : expired) End(ticket, absl::DeadlineExceededError("the request's deadline has passed"));
}

StepPlan EngineLoop::MakePlan() {
  PlanInput input{.free_slots = static_cast<int32_t>(free_slots_.size()),
                  .uncommitted_pages = parts_.runner->pool().total() - committed_pages_,
                  .prefill_chunk = options_.prefill_chunk,
                  .prefilling = group_.has_value()};
  for (const RequestPtr& request : waiting_) {
    input.waiting.push_back({.tokens = static_cast<int32_t>(request->request.prompt.size()),
                             .slots = request->request.n,
                             .pages = request->pages_per_sample * static_cast<uint32_t>(request->request.n)});
  }
  for (const auto& [ticket, request] : admitted_) {
    if (!request->prefilled) continue;
    const auto running = std::count_if(request->samples.begin(), request->samples.end(),
                                       [](const Sample& sample) { return !sample.finished; });
    // A full consumer parks its samples: they keep their pages and skip steps.
    if (running > 0 && request->outbox->HasSpace(static_cast<size_t>(running))) {
      input.decodable += static_cast<int32_t>(running);
    }
  }
  return Plan(input);
}

void EngineLoop::Admit(int32_t requests) {
  if (requests == 0) return;
  const absl::Time now = absl::Now();
  std::vector<Request*> group;
  for (int32_t i = 0; i < requests; ++i) {
    RequestPtr request = std::move(waiting_.front());
    waiting_.pop_front();
    request->admitted = now;
    request->usage.queue = now - request->submitted;
    for (int32_t s = 0; s < request->request.n; ++s) {
      request->samples.push_back(
          Sample{.index = s,
                 .slot = free_slots_.back(),
                 .sampler = Sampler(request->request.sampling, request->request.prompt, s, request->request.min_tokens,
                                    request->end_ids),
                 .next_position = Position{static_cast<int32_t>(request->request.prompt.size())}});
      free_slots_.pop_back();
      committed_pages_ += request->pages_per_sample;
    }
    group.push_back(request.get());
    const Ticket ticket = request->ticket;
    admitted_.emplace(ticket, std::move(request));
  }
  {
    MutexLock lock(&mailbox_->mutex);
    mailbox_->queued -= requests;
  }
  if (const absl::Status status = StartGroup(group); !status.ok()) {
    group_.reset();
    group_requests_.clear();
    for (const Request* request : group) {
      End(request->ticket, absl::InternalError(absl::StrCat("prefill could not start: ", status.ToString())));
    }
  }
}

absl::Status EngineLoop::StartGroup(const std::vector<Request*>& requests) {
  std::vector<PrefillPrompt> prompts;
  for (Request* request : requests) {
    const std::span<const TokenId> tokens = request->request.prompt;
    const EvictionPlan* plan = request->request.plan.get();
    // Without a plan there is no reason to keep the two apart.
    const size_t context = plan != nullptr ? static_cast<size_t>(plan->n_tokens()) : tokens.size();
    PrefillPrompt prompt{.context = tokens.first(context), .question = tokens.subspan(context)};
    for (Sample& sample : request->samples) {
      prompt.targets.push_back({.slot = sample.slot, .plan = plan});
      const absl::Status opened =
          parts_.runner->OpenSlot(prompt.targets.back(), static_cast<int32_t>(context),
                                  static_cast<int32_t>(prompt.question.size()), request->request.max_tokens - 1);
      LUKV_CHECK(opened.ok());  // Admission committed the pages.
    }
    prompts.push_back(std::move(prompt));
  }
  LUKV_ASSIGN_OR_RETURN(group_, parts_.runner->BeginPrefill(prompts));
  group_requests_ = requests;
  return absl::OkStatus();
}

absl::Status EngineLoop::RunPrefillUnit() {
  if (!group_.has_value()) return absl::OkStatus();  // It could not be started.
  // Tokens take effect after the unit: a sample may end with its first token and give its pages back, and until the
  // unit returns the last layer still writes to them.
  std::vector<std::pair<size_t, std::vector<SampledToken>>> done;
  const auto choose = [&](size_t prompt, size_t, int32_t row) -> absl::Status {
    SampleBatch batch;
    for (const Sample& sample : group_requests_[prompt]->samples) {
      AddRow(*group_requests_[prompt], sample, row, batch);
    }
    LUKV_ASSIGN_OR_RETURN(std::vector<SampledToken> tokens, parts_.runner->Sample(batch));
    done.emplace_back(prompt, std::move(tokens));
    return absl::OkStatus();
  };
  absl::Status status = parts_.runner->RunPrefillUnit(*group_, {.rows = choose});
  ++counters_.prefill_units;
  for (auto& [prompt, tokens] : done) {
    if (!status.ok()) break;
    OnPromptDone(*group_requests_[prompt], std::move(tokens));
  }
  if (!status.ok() || group_->done()) {
    group_.reset();
    group_requests_.clear();
  }
  return status;
}

void EngineLoop::OnPromptDone(Request& request, std::vector<SampledToken> tokens) {
  request.prefilled = true;
  request.prompt_done = absl::Now();
  request.usage.prefill = request.prompt_done - request.admitted;
  counters_.prompt_tokens += request.usage.prompt_tokens;
  if (request.request.plan != nullptr) {
    request.usage.eviction = group_->eviction_time();
    const HeadPageTable& table = parts_.runner->table();
    for (int32_t layer = 0; layer < info_.config.n_layers; ++layer) {
      const std::span<const int32_t> kept = table.Kept(request.samples.front().slot, layer);
      const auto [least, most] = std::minmax_element(kept.begin(), kept.end());
      const int64_t sum = std::accumulate(kept.begin(), kept.end(), int64_t{0});
      const float mean = static_cast<float>(sum) / static_cast<float>(kept.size());
      request.usage.kept.push_back({.min = *least, .mean = mean, .max = *most});
      request.usage.context_entries += int64_t{request.usage.context_tokens} * static_cast<int64_t>(kept.size());
      request.usage.kept_entries += sum;
    }
  }
  for (size_t i = 0; i < tokens.size(); ++i) OnToken(request, request.samples[i], std::move(tokens[i]));
}

absl::Status EngineLoop::RunDecode() {
  std::vector<DecodeRow> rows;
  std::vector<std::pair<Request*, Sample*>> owners;
  for (const auto& [ticket, request] : admitted_) {
    if (!request->prefilled) continue;
    std::vector<Sample*> running;
    for (Sample& sample : request->samples) {
      if (!sample.finished) running.push_back(&sample);
    }
    if (running.empty() || !request->outbox->HasSpace(running.size())) continue;
    for (Sample* sample : running) {
      LUKV_CHECK(parts_.runner->GrowSlot(sample->slot, 1).ok());  // Admission committed the pages.
      rows.push_back({.slot = sample->slot, .token = sample->last, .position = sample->next_position});
      sample->next_position = Position{Value(sample->next_position) + 1};
      owners.emplace_back(request.get(), sample);
    }
  }
  if (rows.empty()) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(parts_.runner->Decode(rows));
  SampleBatch batch;
  for (size_t i = 0; i < rows.size(); ++i) {
    AddRow(*owners[i].first, *owners[i].second, static_cast<int32_t>(i), batch);
  }
  LUKV_ASSIGN_OR_RETURN(std::vector<SampledToken> tokens, parts_.runner->Sample(batch));
  for (size_t i = 0; i < rows.size(); ++i) OnToken(*owners[i].first, *owners[i].second, std::move(tokens[i]));
  return absl::OkStatus();
}

void EngineLoop::AddRow(const Request& request, const Sample& sample, int32_t logits_row, SampleBatch& batch) {
  sample.sampler.AddRow(logits_row, request.request.logprobs ? request.request.top_logprobs : -1, batch);
}

void EngineLoop::OnToken(Request& request, Sample& sample, SampledToken sampled) {
  const TokenId token = sampled.token;
  sample.sampler.Took(token);
  sample.last = token;
  ++sample.generated;
  ++counters_.generated_tokens;
  request.last_token = absl::Now();
  if (request.first_token == absl::Time()) request.first_token = request.last_token;

  TokenEvent event{.sample = sample.index, .token = token};
  if (request.request.logprobs) {
    event.logprob = sampled.logprob;
    event.alternatives = std::move(sampled.top);
  }
  request.outbox->Push(std::move(event));
  if (Contains(request.end_ids, token)) {
    FinishSample(request, sample, FinishReason::kStop, token);
  } else if (sample.generated == request.request.max_tokens) {
    FinishSample(request, sample, FinishReason::kLength, -1);
  }
}

void EngineLoop::FinishSample(Request& request, Sample& sample, FinishReason reason, TokenId stop_token) {
  ReleaseSample(request, sample);
  request.outbox->Push(FinishEvent{.sample = sample.index, .reason = reason, .stop_token = stop_token});
}

void EngineLoop::ReleaseSample(Request& request, Sample& sample) {
  HeadPageTable& table = parts_.runner->table();
  if (table.in_use(sample.slot)) {
    // next_position counts the entries that a full cache would hold.
    request.usage.kv_bytes_full += Value(sample.next_position) * info_.kv_bytes_per_token;
    request.usage.kv_bytes_resident += table.pages_held(sample.slot) * counters_.page_bytes;
    table.Release(sample.slot);
  }
  request.usage.generated_tokens += sample.generated;
  free_slots_.push_back(sample.slot);
  committed_pages_ -= request.pages_per_sample;
  sample.finished = true;
}

void EngineLoop::End(Ticket ticket, const absl::Status& status) {
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(),
                                    [ticket](const RequestPtr& request) { return request->ticket == ticket; });
  if (waiting != waiting_.end()) {
    const RequestPtr request = std::move(*waiting);
    waiting_.erase(waiting);
    {
      MutexLock lock(&mailbox_->mutex);
      --mailbox_->queued;
    }
    request->usage.queue = absl::Now() - request->submitted;
    SendDone(*request->outbox, status, request->usage);
    return;
  }
  const auto found = admitted_.find(ticket);
  if (found == admitted_.end()) return;
  const RequestPtr request = std::move(found->second);
  admitted_.erase(found);
  for (Sample& sample : request->samples) {
    if (!sample.finished) ReleaseSample(*request, sample);
  }
  for (size_t prompt = 0; prompt < group_requests_.size(); ++prompt) {
    if (group_requests_[prompt] != request.get()) continue;
    group_requests_[prompt] = nullptr;
    group_->Drop(prompt);
  }
  if (group_.has_value() && group_->empty()) {
    group_.reset();
    group_requests_.clear();
  }
  if (request->first_token != absl::Time()) {
    request->usage.first_token = request->first_token - request->submitted;
    request->usage.decode = request->last_token - request->first_token;
  }
  SendDone(*request->outbox, status, request->usage);
}

void EngineLoop::EndAdmittedWith(const absl::Status& status) {
  while (!admitted_.empty()) End(admitted_.begin()->first, status);
}

void EngineLoop::SweepFinished() {
  std::vector<Ticket> finished;
  for (const auto& [ticket, request] : admitted_) {
    if (request->finished()) finished.push_back(ticket);
  }
  for (const Ticket ticket : finished) End(ticket, absl::OkStatus());
}

void EngineLoop::PublishStats() {
  const HeadPageTable& table = parts_.runner->table();
  const int32_t n_layers = info_.config.n_layers;
  counters_.running = 0;
  counters_.kv_bytes_full = 0;
  counters_.kv_bytes_resident = 0;
  counters_.layers.assign(static_cast<size_t>(n_layers), LayerEntries());
  for (const auto& [ticket, request] : admitted_) {
    for (const Sample& sample : request->samples) {
      if (sample.finished) continue;
      ++counters_.running;
      counters_.kv_bytes_full += Value(sample.next_position) * info_.kv_bytes_per_token;
      counters_.kv_bytes_resident += table.pages_held(sample.slot) * counters_.page_bytes;
      if (!request->prefilled || request->request.plan == nullptr) continue;
      for (int32_t layer = 0; layer < n_layers; ++layer) {
        LayerEntries& entries = counters_.layers[static_cast<size_t>(layer)];
        const std::span<const int32_t> kept = table.Kept(sample.slot, layer);
        entries.full += int64_t{request->usage.context_tokens} * static_cast<int64_t>(kept.size());
        entries.kept += std::accumulate(kept.begin(), kept.end(), int64_t{0});
      }
    }
  }
  counters_.pages_used = parts_.runner->pool().used();
  MutexLock lock(&mailbox_->mutex);
  mailbox_->stats = counters_;
}

}  // namespace lukv
