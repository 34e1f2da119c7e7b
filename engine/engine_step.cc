// One step: look, plan, preempt, decode, admit, prefill.
#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/engine_core.h"
#include "engine/evict/eviction_plan.h"

namespace lukv {
namespace {

// More waiting requests than this are not looked at in one step.
constexpr size_t kLookAhead = 64;

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool SamePlan(const EvictionPlan* a, const EvictionPlan* b) {
  if (a == nullptr || b == nullptr) return a == b;
  return a->n_tokens() == b->n_tokens() && a->policy() == b->policy();
}

Work::Kind KindOf(PrefillUnit::Kind kind) {
  switch (kind) {
    case PrefillUnit::Kind::kContext:
      return Work::Kind::kContext;
    case PrefillUnit::Kind::kCompact:
      return Work::Kind::kCompact;
    case PrefillUnit::Kind::kQuestion:
      return Work::Kind::kQuestion;
  }
  return Work::Kind::kContext;
}

}  // namespace

bool EngineCore::Step() {
  Expire();
  PinWhatIsThere();
  const StepPlan plan = Plan(Look());
  if (plan.decode.empty() && plan.preempt.empty() && plan.admit.empty() && groups_.empty()) return false;

  for (const int32_t i : plan.preempt) Preempt(*runners_[static_cast<size_t>(i)]);
  absl::Status status = RunDecode(plan.decode);
  if (status.ok()) {
    Admit(plan.admit);
    status = RunPrefill(!plan.decode.empty());
  }
  if (!status.ok()) {
    // Nobody knows what the device's memory holds now.
    ++counters_.step_failures;
    EndAdmitted(absl::InternalError(absl::StrCat("step failed: ", status.ToString())));
    cache_.Clear();
  }
  ++counters_.steps;
  std::vector<LiveRequest*> finished;
  for (LiveRequest* request : running_) {
    if (request->unfinished() == 0) finished.push_back(request);
  }
  for (LiveRequest* request : finished) End(*request, absl::OkStatus());
  return true;
}

// Contexts that are to be pinned and are in the cache already need no step.
void EngineCore::PinWhatIsThere() {
  std::vector<LiveRequest*> there;
  for (LiveRequest* request : waiting_) {
    if (request->context_only() && cache_.FindContext(request->context_key) != nullptr) there.push_back(request);
  }
  for (LiveRequest* request : there) {
    const std::shared_ptr<const SharedPages> pages = cache_.FindContext(request->context_key);
    cache_.PutContext(request->context_key, pages, request->request.shared_context->pinned_until);
    request->usage.cached_tokens = request->context_tokens;
    ReportKept(*request, pages->kept());
    End(*request, absl::OkStatus());
  }
}

PlanInput EngineCore::Look() {
  PlanInput input{.free_slots = static_cast<int32_t>(free_slots_.size()),
                  .free_pages = FreePages(),
                  .reclaimable = cache_.CountPages().reclaimable,
                  .prefill_chunk = options_.prefill_chunk};
  const absl::Time now = clock_.Now();
  const HeadPageTable& table = parts_.runner->table();
  runners_.clear();
  for (LiveRequest* request : running_) {
    RunningRequest running;
    const int32_t rows = request->phase == LiveRequest::Phase::kDecode ? request->unfinished() : 0;
    // A full consumer parks its samples: they keep their pages and skip steps.
    if (rows > 0 && request->outbox->HasSpace(static_cast<size_t>(rows))) {
      request->parked_since = absl::InfiniteFuture();
      running.rows = rows;
      for (const LiveSample& sample : request->samples) {
        const auto output = static_cast<int32_t>(sample.output.size());
        if (!sample.open || output <= sample.reserved) continue;
        const int32_t question = request->question_tokens();
        running.top_up += table.OwnPages(sample.slot, question + ReserveFor(*request, output)) -
                          table.OwnPages(sample.slot, question + sample.reserved);
      }
    } else if (rows > 0) {
      request->parked_since = std::min(request->parked_since, now);
    }
    input.running.push_back(running);
    input.held.push_back(request->committed);
    runners_.push_back(request);
  }
  for (const auto& group : groups_) (group->is_long ? input.long_prefill : input.short_prefill) = true;

  looked_at_.clear();
  for (LiveRequest* request : waiting_) {
    if (looked_at_.size() == kLookAhead || input.free_slots == 0) break;
    const Base base = ChooseBase(*request);
    WaitingRequest waiting{.tokens = request->prompt_tokens() - base.tokens,
                           .slots = request->unfinished(),
                           .pages = PagesToAdmit(*request, base),
                           .held_back = base.pages == nullptr && ContextIsComing(*request)};
    if (base.pages != nullptr && waiting.pages > input.free_pages) {
      // What it goes on from cannot give way for it.
      waiting.pages += input.reclaimable - cache_.CountPages().reclaimable;
    }
    looked_at_.push_back(request);
    input.waiting.push_back(waiting);
    if (!waiting.held_back && waiting.pages > input.free_pages + input.reclaimable) break;  // The plan goes no further.
  }
  return input;
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

uint32_t EngineCore::FreePages() const {
  const uint32_t taken = committed_ + parts_.runner->pool().used_by(PageOwner::kContext);
  LUKV_CHECK(taken <= counters_.pages_total);
  return counters_.pages_total - taken;
}

bool EngineCore::MakeRoom(uint32_t pages) {
  while (FreePages() < pages) {
    if (!cache_.DropOldest()) return false;
  }
  return true;
}

// Entries behind the prompt that a sample with `output` tokens is promised: its output's, and a reserve.
int32_t EngineCore::ReserveFor(const LiveRequest& request, int32_t output) const {
  return std::clamp(request.request.max_tokens - 1, 0, output + options_.generation_reserve);
}

uint32_t EngineCore::PagesToAdmit(const LiveRequest& request, const Base& base) const {
  const ModelRunner& runner = *parts_.runner;
  const int32_t question = request.question_tokens();
  const int32_t after = question + ReserveFor(request, request.longest_output());
  const auto others = static_cast<uint32_t>(std::max(request.unfinished() - 1, 0));
  if (base.pages == nullptr) {
    return runner.PagesToOpen(request.plan.get(), request.context_tokens, after) +
           others * runner.PagesToFork(request.plan.get(), request.context_tokens, question, after);
  }
  const HeadPageTable& table = parts_.runner->table();
  return table.PagesToGoOn(*base.pages, base.generated, after) +
         others * table.PagesToGoOn(*base.pages, question, after);
}

// What the request can go on from. A turn of its conversation brings its context and its plan along.
EngineCore::Base EngineCore::FindBase(LiveRequest& request) {
  if (request.request.shared_context.has_value()) {
    if (std::shared_ptr<const SharedPages> pages = cache_.FindContext(request.context_key); pages != nullptr) {
      return {.pages = std::move(pages), .tokens = request.context_tokens};
    }
    return {};
  }
  if (request.request.conversation.empty()) return {};
  // The turn that it was to go on from may be gone since it was last looked for.
  if (!request.was_admitted()) request.UseOwnContext();
  const Turn* turn = cache_.FindConversation(request.request.tenant, request.request.conversation);
  if (turn == nullptr) return {};
  // The last token's logits are wanted, so it is computed.
  const std::span<const TokenId> prompt =
      std::span<const TokenId>(request.request.prompt).first(static_cast<size_t>(request.prompt_tokens() - 1));
  const auto [end, unused] = std::mismatch(prompt.begin(), prompt.end(), turn->tokens.begin(), turn->tokens.end());
  const auto common = static_cast<int32_t>(end - prompt.begin());
  if (common < turn->context_tokens) return {};
  const bool as_admitted =
      request.context_tokens == turn->context_tokens && SamePlan(request.plan.get(), turn->plan.get());
  if (!as_admitted) {
    if (request.was_admitted()) return {};  // Its tokens so far came from another context.
    request.context_tokens = turn->context_tokens;
    request.plan = turn->plan;
    request.usage.context_tokens = turn->plan != nullptr ? turn->context_tokens : 0;
  }
  return {.pages = turn->pages, .generated = common - turn->context_tokens, .tokens = common};
}

// What FindBase found, unless there is no room to go on from it and nobody is there to wait for: then the request
// starts anew, and what it could have gone on from gives way.
EngineCore::Base EngineCore::ChooseBase(LiveRequest& request) {
  Base base = FindBase(request);
  if (base.pages == nullptr || !running_.empty()) return base;
  const uint32_t available = FreePages() + cache_.CountPages().reclaimable;  // Without what `base` holds.
  if (PagesToAdmit(request, base) <= available) return base;
  if (!request.was_admitted()) request.UseOwnContext();
  return {};
}

// Whether the context that it brings will be there for others.
bool EngineCore::KeepsContext(const LiveRequest& request) const {
  return request.request.shared_context.has_value() && (options_.share_contexts || request.context_only());
}

// Whether the context that it shares is being computed, or will be for a request before it in this step.
bool EngineCore::ContextIsComing(const LiveRequest& request) const {
  if (!request.request.shared_context.has_value()) return false;
  const auto same = [&](const LiveRequest* other) {
    return other != nullptr && other != &request && KeepsContext(*other) && other->context_key == request.context_key;
  };
  for (const auto& group : groups_) {
    if (!group->replay && std::any_of(group->requests.begin(), group->requests.end(), same)) return true;
  }
  return std::any_of(looked_at_.begin(), looked_at_.end(), same);
}

// The request goes back to where it waited; its output stays and will be computed into the cache again.
void EngineCore::Preempt(LiveRequest& request) {
  running_.erase(&request);
  for (LiveSample& sample : request.samples) ReleaseSample(request, sample, /*count=*/false);
  Leave(request);
  request.phase = LiveRequest::Phase::kWaiting;
  request.parked_since = absl::InfiniteFuture();
  ++request.usage.preemptions;
  ++counters_.preemptions;
  for (LiveSample& sample : request.samples) {
    if (!sample.finished && sample.stop_at >= 0) StopAt(request, sample);
  }
  waiting_.insert(&request);
}

// ---------------------------------------------------------------------------------------------------------------------
// Decode

Work EngineCore::DecodeWork(const std::vector<LiveRequest*>& requests) const {
  Work work{.kind = Work::Kind::kDecode};
  for (const LiveRequest* request : requests) {
    const int64_t heads = int64_t{info_.config.n_layers} * info_.config.n_kv_heads;
    int64_t kept = request->context_tokens;
    if (!request->layer_kept.empty()) {
      kept = std::accumulate(request->layer_kept.begin(), request->layer_kept.end(), int64_t{0}) / heads;
    }
    for (const LiveSample& sample : request->samples) {
      if (sample.finished) continue;
      work.rows += 1;
      work.entries +=
          static_cast<double>(kept + request->question_tokens()) + static_cast<double>(sample.output.size());
    }
  }
  return work;
}

absl::Status EngineCore::RunDecode(const std::vector<int32_t>& planned) {
  std::vector<DecodeRow> rows;
  std::vector<LiveRequest*> requests;
  std::vector<std::pair<LiveRequest*, LiveSample*>> owners;
  for (const int32_t i : planned) {
    LiveRequest& request = *runners_[static_cast<size_t>(i)];
    TopUp(request);
    requests.push_back(&request);
    for (LiveSample& sample : request.samples) {
      if (sample.finished) continue;
      LUKV_CHECK(parts_.runner->GrowSlot(sample.slot, 1).ok());  // The pages were promised.
      const auto position = request.prompt_tokens() + static_cast<int32_t>(sample.output.size()) - 1;
      rows.push_back({.slot = sample.slot, .token = sample.output.back(), .position = Position{position}});
      owners.emplace_back(&request, &sample);
    }
  }
  if (rows.empty()) return absl::OkStatus();
  const Work work = DecodeWork(requests);
  const absl::Time start = clock_.Now();
  LUKV_RETURN_IF_ERROR(parts_.runner->Decode(rows));
  SampleBatch batch;
  for (size_t i = 0; i < rows.size(); ++i) {
    AddRow(*owners[i].first, *owners[i].second, static_cast<int32_t>(i), batch);
  }
  LUKV_ASSIGN_OR_RETURN(std::vector<SampledToken> tokens, parts_.runner->Sample(batch));
  cost_.Observe(work, clock_.Now() - start);
  decode_time_ = cost_.Expect(work);
  for (size_t i = 0; i < rows.size(); ++i) OnToken(*owners[i].first, *owners[i].second, std::move(tokens[i]));
  return absl::OkStatus();
}

void EngineCore::TopUp(LiveRequest& request) {
  const HeadPageTable& table = parts_.runner->table();
  const auto reserve = [&](const LiveSample& sample) {
    return ReserveFor(request, static_cast<int32_t>(sample.output.size()));
  };
  uint32_t pages = 0;
  const int32_t question = request.question_tokens();
  for (const LiveSample& sample : request.samples) {
    if (!sample.open || static_cast<int32_t>(sample.output.size()) <= sample.reserved) continue;
    pages += table.OwnPages(sample.slot, question + reserve(sample)) -
             table.OwnPages(sample.slot, question + sample.reserved);
  }
  LUKV_CHECK(MakeRoom(pages));  // The plan counted them.
  for (LiveSample& sample : request.samples) {
    if (sample.open && static_cast<int32_t>(sample.output.size()) > sample.reserved) sample.reserved = reserve(sample);
  }
  Recommit(request);
}

void EngineCore::AddRow(const LiveRequest& request, const LiveSample& sample, int32_t logits_row, SampleBatch& batch) {
  sample.sampler.AddRow(logits_row, request.request.logprobs ? request.request.top_logprobs : -1, batch);
}

void EngineCore::OnToken(LiveRequest& request, LiveSample& sample, SampledToken sampled) {
  const TokenId token = sampled.token;
  sample.sampler.Took(token);
  sample.output.push_back(token);
  ++counters_.generated_tokens;
  request.last_token = clock_.Now();
  if (request.first_token == absl::InfinitePast()) request.first_token = request.last_token;

  TokenEvent event{.sample = sample.index, .token = token};
  if (request.request.logprobs) {
    event.logprob = sampled.logprob;
    event.alternatives = std::move(sampled.top);
  }
  request.outbox->Push(std::move(event));
  if (Contains(request.end_ids, token)) {
    FinishSample(request, sample, FinishReason::kStop, token);
  } else if (static_cast<int32_t>(sample.output.size()) == request.request.max_tokens) {
    FinishSample(request, sample, FinishReason::kLength, -1);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Admission

void EngineCore::Admit(const std::vector<int32_t>& planned) {
  std::vector<LiveRequest*> admitted;
  std::vector<PrefillPrompt> prompts;
  absl::Status status;
  int32_t tokens = 0;
  for (const int32_t i : planned) {
    LiveRequest& request = *looked_at_[static_cast<size_t>(i)];
    if (request.unfinished() == 0) continue;
    const Base base = ChooseBase(request);
    const uint32_t pages = PagesToAdmit(request, base);
    // Room for one may have taken what another was to go on from.
    if (!MakeRoom(pages) || static_cast<int32_t>(free_slots_.size()) < request.unfinished()) break;
    Take(request, base, pages);
    admitted.push_back(&request);
    tokens += request.prompt_tokens() - base.tokens;
    status = Open(request, base, prompts);
    if (!status.ok()) break;
  }
  if (admitted.empty()) return;
  auto group = std::make_unique<LiveGroup>();
  if (status.ok()) {
    absl::StatusOr<PrefillGroup> begun = parts_.runner->BeginPrefill(prompts);
    if (begun.ok()) {
      group->group = *std::move(begun);
      group->is_long = tokens > options_.prefill_chunk;
      group->requests = admitted;
      group->tokens.resize(admitted.size());
      groups_.push_back(std::move(group));
      return;
    }
    status = begun.status();
  }
  for (LiveRequest* request : admitted) {
    End(*request, absl::InternalError(absl::StrCat("prefill could not start: ", status.ToString())));
  }
}

// Out of the queue, with slots and a promise of pages.
void EngineCore::Take(LiveRequest& request, const Base& base, uint32_t pages) {
  waiting_.erase(&request);
  running_.insert(&request);
  request.phase = LiveRequest::Phase::kPrefill;
  request.committed = pages;
  committed_ += pages;
  const int32_t after = request.question_tokens() + ReserveFor(request, request.longest_output());
  request.full_pages =
      int64_t{request.unfinished()} * parts_.runner->PagesToOpen(nullptr, request.context_tokens, after);
  full_pages_ += request.full_pages;
  for (LiveSample& sample : request.samples) {
    if (sample.finished) continue;
    sample.slot = free_slots_.back();
    sample.open = true;
    free_slots_.pop_back();
  }
  if (request.was_admitted()) return;
  request.admitted = clock_.Now();
  request.usage.queue = request.admitted - request.submitted;
  request.usage.cached_tokens = base.tokens;
  --new_requests_;
  new_tokens_ -= request.prompt_tokens();
  if (full_pages_ > counters_.pages_total) counters_.admitted_by_eviction += request.unfinished();
  const ValidRequest& valid = request.request;
  if (valid.shared_context.has_value()) counters_.cache_query_tokens += request.context_tokens;
  if (!valid.conversation.empty()) counters_.cache_query_tokens += request.prompt_tokens();
  counters_.cache_hit_tokens += base.tokens;
}

// The first sample's slot, and the prompt that fills it. The other samples go on from it once it is full.
absl::Status EngineCore::Open(LiveRequest& request, const Base& base, std::vector<PrefillPrompt>& prompts) {
  const std::span<const TokenId> tokens = request.request.prompt;
  const Slot slot = request.first_unfinished().slot;
  const int32_t room = std::max(request.request.max_tokens - 1, 0);
  if (base.pages != nullptr) {
    const std::span<const TokenId> rest = tokens.subspan(static_cast<size_t>(base.tokens));
    LUKV_RETURN_IF_ERROR(
        parts_.runner->OpenShared(slot, base.pages, base.generated, static_cast<int32_t>(rest.size()), room));
    prompts.push_back({.question = rest, .first_position = Position{base.tokens}, .targets = {{.slot = slot}}});
    return absl::OkStatus();
  }
  const auto context = static_cast<size_t>(request.context_tokens);
  PrefillPrompt prompt{.context = tokens.first(context),
                       .question = tokens.subspan(context),
                       .targets = {{.slot = slot, .plan = request.plan.get()}}};
  LUKV_RETURN_IF_ERROR(
      parts_.runner->OpenSlot(prompt.targets.back(), request.context_tokens, request.question_tokens(), room));
  prompts.push_back(std::move(prompt));
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// Prefill

absl::Status EngineCore::RunPrefill(bool decoding) {
  // With nobody to wait for it, one unit of full length; then there may be news.
  absl::Duration left = decoding ? PrefillTime(decode_time_, options_.max_step) : absl::InfiniteDuration();
  for (bool first = true; !groups_.empty(); first = false) {
    LiveGroup& group = *groups_.front();
    const PrefillUnit unit = group.group.next_unit();
    Work work{.kind = KindOf(unit.kind)};
    const auto expect = [&](int32_t rows) {
      work.rows = rows;
      work.entries = static_cast<double>(group.group.EntriesSeen(rows));
      return cost_.Expect(work);
    };
    int32_t rows = unit.rows;
    if (unit.kind != PrefillUnit::Kind::kCompact) {
      rows = std::min(rows, options_.prefill_chunk);
      // Before anything is known of such units a small one tells.
      if (decoding) rows = cost_.knows(work.kind) ? UnitRows(rows, left, expect) : std::min(rows, 2 * kUnitTile);
    }
    if (expect(rows) > left && !first) return absl::OkStatus();
    const absl::Time start = clock_.Now();
    // The groups take turns.
    std::rotate(groups_.begin(), groups_.begin() + 1, groups_.end());
    LUKV_RETURN_IF_ERROR(RunUnit(group, rows));
    const absl::Duration took = clock_.Now() - start;
    cost_.Observe(work, took);
    if (!decoding) return absl::OkStatus();
    counters_.decode_stall += took;
    left -= took;
    if (left <= absl::ZeroDuration()) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status EngineCore::RunUnit(LiveGroup& group, int32_t rows) {
  const auto choose = [&](size_t prompt, size_t, int32_t row) -> absl::Status {
    const LiveRequest& request = *group.requests[prompt];
    // One that was preempted has its first tokens.
    if (request.context_only() || request.longest_output() > 0) return absl::OkStatus();
    SampleBatch batch;
    for (const LiveSample& sample : request.samples) AddRow(request, sample, row, batch);
    LUKV_ASSIGN_OR_RETURN(group.tokens[prompt], parts_.runner->Sample(batch));
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(parts_.runner->RunPrefillUnit(group.group, {.rows = choose}, rows));
  ++counters_.prefill_units;
  return group.group.done() ? OnGroupDone(group) : absl::OkStatus();
}

absl::Status EngineCore::OnGroupDone(LiveGroup& done) {
  const auto found =
      std::find_if(groups_.begin(), groups_.end(), [&](const auto& group) { return group.get() == &done; });
  const std::unique_ptr<LiveGroup> group = std::move(*found);
  groups_.erase(found);
  std::vector<LiveRequest*> to_replay;
  for (size_t prompt = 0; prompt < group->requests.size(); ++prompt) {
    LiveRequest* request = group->requests[prompt];
    if (request == nullptr) continue;
    if (group->replay) {
      if (request->phase == LiveRequest::Phase::kReplay) StartDecode(*request);
      continue;
    }
    if (request->plan != nullptr) request->usage.eviction = group->group.eviction_time();
    LUKV_RETURN_IF_ERROR(OnPromptDone(*request, std::move(group->tokens[prompt])));
    if (request->phase == LiveRequest::Phase::kReplay) to_replay.push_back(request);
  }
  return to_replay.empty() ? absl::OkStatus() : StartReplay(to_replay);
}

void EngineCore::ReportKept(LiveRequest& request, std::span<const int32_t> kept) {
  if (request.plan == nullptr || !request.usage.kept.empty()) return;
  const auto heads = static_cast<size_t>(info_.config.n_kv_heads);
  for (size_t first = 0; first < kept.size(); first += heads) {
    const std::span<const int32_t> layer = kept.subspan(first, heads);
    const auto [least, most] = std::minmax_element(layer.begin(), layer.end());
    const int64_t sum = std::accumulate(layer.begin(), layer.end(), int64_t{0});
    const float mean = static_cast<float>(sum) / static_cast<float>(heads);
    request.usage.kept.push_back({.min = *least, .mean = mean, .max = *most});
    request.usage.context_entries += int64_t{request.context_tokens} * static_cast<int64_t>(heads);
    request.usage.kept_entries += sum;
    request.layer_kept.push_back(sum);
  }
}

absl::Status EngineCore::OnPromptDone(LiveRequest& request, std::vector<SampledToken> tokens) {
  HeadPageTable& table = parts_.runner->table();
  const LiveSample& filled = request.first_unfinished();
  const bool resumed = request.longest_output() > 0;
  if (!resumed) {
    request.usage.prefill = clock_.Now() - request.admitted;
    counters_.prompt_tokens += request.prompt_tokens();
  }
  ReportKept(request, table.AllKept(filled.slot));
  if (!request.layer_kept.empty()) CountLayers(request, request.unfinished());
  if (KeepsContext(request) && table.shared(filled.slot) == nullptr) {
    cache_.PutContext(request.context_key, table.Share(filled.slot, 0), request.request.shared_context->pinned_until);
  }
  if (request.context_only()) {
    for (LiveSample& sample : request.samples) {
      sample.finished = true;
      ReleaseSample(request, sample, /*count=*/true);
    }
    return absl::OkStatus();
  }
  const int32_t question = request.question_tokens();
  if (request.unfinished() > 1) {
    const std::shared_ptr<const SharedPages> prompt = table.Share(filled.slot, question);
    for (LiveSample& sample : request.samples) {
      if (sample.finished || &sample == &filled) continue;
      LUKV_RETURN_IF_ERROR(parts_.runner->OpenShared(sample.slot, prompt, question, 0, request.request.max_tokens - 1));
    }
  }
  for (LiveSample& sample : request.samples) {
    sample.reserved = ReserveFor(request, static_cast<int32_t>(sample.output.size()));
  }
  Recommit(request);
  if (resumed) {
    request.phase = LiveRequest::Phase::kReplay;
    return absl::OkStatus();
  }
  request.phase = LiveRequest::Phase::kDecode;
  for (size_t i = 0; i < tokens.size(); ++i) OnToken(request, request.samples[i], std::move(tokens[i]));
  return absl::OkStatus();
}

// Outputs of requests that were preempted follow their prompts into the cache.
absl::Status EngineCore::StartReplay(const std::vector<LiveRequest*>& requests) {
  auto group = std::make_unique<LiveGroup>();
  group->replay = true;
  std::vector<PrefillPrompt> prompts;
  int32_t tokens = 0;
  for (LiveRequest* request : requests) {
    const size_t before = prompts.size();
    for (LiveSample& sample : request->samples) {
      if (sample.finished || sample.output.size() < 2) continue;
      const std::span<const TokenId> output = std::span<const TokenId>(sample.output).first(sample.output.size() - 1);
      const auto n = static_cast<int32_t>(output.size());
      LUKV_CHECK(parts_.runner->GrowSlot(sample.slot, n).ok());  // The pages were promised.
      prompts.push_back({.question = output,
                         .first_position = Position{request->prompt_tokens()},
                         .targets = {{.slot = sample.slot}}});
      group->requests.push_back(request);
      tokens += n;
    }
    if (prompts.size() == before) StartDecode(*request);
  }
  if (prompts.empty()) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(group->group, parts_.runner->BeginReplay(prompts));
  group->is_long = tokens > options_.prefill_chunk;
  group->tokens.resize(prompts.size());
  groups_.push_back(std::move(group));
  return absl::OkStatus();
}

void EngineCore::StartDecode(LiveRequest& request) {
  request.phase = LiveRequest::Phase::kDecode;
  for (LiveSample& sample : request.samples) {
    if (!sample.finished && sample.stop_at >= 0) StopAt(request, sample);
  }
}

}  // namespace lukv
