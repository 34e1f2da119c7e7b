#include "tools/simulate/simulation.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/mutex.h"
#include "engine/refusal.h"
#include "tools/simulate/client.h"
#include "tools/simulate/oracle.h"

namespace lukv {
namespace {

// Steps between two looks at all that is more than a few numbers.
constexpr int64_t kFullCheckEvery = 16;
// Steps without a token or an end; a prompt takes some.
constexpr int64_t kMostVainSteps = 3000;
// The cost model has learnt by then. It does not know what scorers and policies differ in, so a single step may be off.
constexpr int64_t kLearntSteps = 100;
constexpr double kBudgetTolerance = 2;
constexpr double kMeanTolerance = 1.25;
constexpr int64_t kMeanOf = 20;
// Calls that run nothing, at one and the same moment.
constexpr int kMostIdleCalls = 1000;

std::string StatusName(const absl::Status& status) {
  const Refusal refusal = RefusalOf(status);
  return refusal == Refusal::kNone ? absl::StatusCodeToString(status.code()) : std::string(RefusalName(refusal));
}

class Simulation {
 public:
  Simulation(const Scenario& scenario, const SimulationOptions& options);
  SimulationResult Run();

 private:
  // For the check of the order; kept until the server is made anew.
  struct Stay {
    Ticket ticket;
    absl::Time standing;
    absl::Time submitted;
    absl::Time admitted;  // InfiniteFuture: never.
    absl::Time ended;
    bool shares;         // May have to wait for somebody else's context.
    bool nothing_to_do;  // A context that was there already.
  };

  struct Event {
    absl::Time time;
    int64_t number;  // First in, first out at one moment.
    std::function<void()> run;
    bool operator>(const Event& other) const { return time != other.time ? time > other.time : number > other.number; }
  };

  void At(absl::Time time, std::function<void()> run) { events_.push({time, ++event_number_, std::move(run)}); }
  void Trace(uint64_t value) { result_.trace = Mix(result_.trace, value); }
  void Fail(const std::string& what);
  std::string State() const;
  bool failed() const { return !result_.failure.empty(); }
  EngineCore& core() { return server_->core(); }

  void StartServer();
  void StopServer();
  void Arrive();
  void Submit(PlannedRequest planned);
  void RunDue();
  void ReadReady();
  void Read(Ticket ticket);
  void OnEnd(Client& client);
  void Compare(const Client& client, const std::vector<PastTurn>& turns);
  bool Advance();

  void CheckStep();
  void CheckProgress();
  void CheckBudget(absl::Duration took, const EngineStats& stats);
  void CheckRows();
  void CheckOrder();
  void CheckIdle();

  const Scenario scenario_;
  const SimulationOptions options_;
  SimulationResult result_;
  VirtualClock clock_;
  Workload workload_;
  Random draws_;  // Of the simulation itself: what is compared.
  std::optional<Oracle> oracle_;
  std::unique_ptr<SimulatedServer> server_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  int64_t event_number_ = 0;
  Ticket last_ticket_ = 0;
  std::map<Ticket, std::unique_ptr<Client>> live_;
  std::vector<Ticket> ready_;  // Whose clients read at once.
  std::map<std::string, std::vector<PastTurn>> conversations_;
  std::vector<ContextKey> pinned_;
  int idle_calls_ = 0;
  absl::Time step_start_;
  int64_t progress_ = 0;       // Tokens that came and requests that ended,
  int64_t progress_step_ = 0;  // and the step that brought the last of them.
  // Of this server.
  std::vector<Stay> stays_;
  int64_t received_ = 0;
  int64_t prefill_units_ = 0;
  int64_t budgeted_steps_ = 0;    // With several units, and
  absl::Duration budgeted_time_;  // what they took.
};

Simulation::Simulation(const Scenario& scenario, const SimulationOptions& options)
    : scenario_(scenario), options_(options), workload_(scenario), draws_(Mix(scenario.seed, 3)) {
  result_.seed = scenario.seed;
  if (options.compared > 0) oracle_.emplace(scenario);
}

void Simulation::Fail(const std::string& what) {
  if (failed()) return;
  result_.failure = absl::StrCat("seed ", scenario_.seed, ", step ", result_.counts.steps, ", ",
                                 absl::FormatDuration(clock_.Now() - absl::UnixEpoch()), ": ", what);
  if (server_ != nullptr) absl::StrAppend(&result_.failure, State());
}

// What the server says of itself.
std::string Simulation::State() const {
  const EngineStats stats = server_->core().Stats();
  std::string state = absl::StrCat("\n  of ", stats.pages_total, " pages ", stats.pages_used, " are used and ",
                                   stats.pages_reclaimable, " give way; contexts ", stats.contexts, " with ",
                                   stats.pages_contexts, " pages; ", stats.running, " sequences run");
  for (const RequestRow& row : server_->core().Requests()) {
    absl::StrAppend(&state, "\n  ", row.id, " ", row.state, ", priority ", row.priority, ", prompt ", row.prompt_tokens,
                    ", output ", row.generated_tokens, " of ", row.samples, " samples, pages ", row.pages, ", ",
                    row.policy);
  }
  return state;
}

void Simulation::StartServer() {
  auto server = SimulatedServer::Start(scenario_.server, clock_);
  if (!server.ok()) return Fail(absl::StrCat("no server: ", server.status().ToString()));
  server_ = *std::move(server);
  stays_.clear();
  received_ = 0;
  prefill_units_ = 0;
  budgeted_steps_ = 0;
  budgeted_time_ = absl::ZeroDuration();
}

// All requests that live end now.
void Simulation::StopServer() {
  for (const auto& [ticket, client] : live_) client->ServerStopped();
  core().EndAll(absl::UnavailableError("the server is made anew"));
  std::vector<Ticket> tickets;
  for (const auto& [ticket, client] : live_) tickets.push_back(ticket);
  for (const Ticket ticket : tickets) Read(ticket);
  if (!live_.empty()) Fail(absl::StrCat(live_.size(), " requests have not ended with the server"));
  CheckOrder();
  const EngineStats stats = core().Stats();
  if (stats.generated_tokens != received_) {
    Fail(absl::StrCat("the server counts ", stats.generated_tokens, " tokens, ", received_, " came"));
  }
  if (server_->runner().pool().used() != 0) {
    Fail(absl::StrCat(server_->runner().pool().used(), " pages are held by nobody"));
  }
  result_.counts.preemptions += stats.preemptions;
  result_.counts.faults += server_->backend().faults_injected();
  if (failed()) return;
  conversations_.clear();
  pinned_.clear();
  ready_.clear();
  server_.reset();
}

void Simulation::Arrive() {
  if (workload_.left() == 0) return;
  if (workload_.NextIsRestart()) {
    StopServer();
    if (failed()) return;
    ++result_.counts.restarts;
    StartServer();
    if (failed()) return;
  }
  if (const auto key = workload_.NextRelease(); key.has_value()) core().ReleaseContext(*key);
  if (workload_.left() > 0) Submit(workload_.Next());
  At(clock_.Now() + workload_.NextPause(), [this] { Arrive(); });
}

void Simulation::Submit(PlannedRequest planned) {
  const Ticket ticket = ++last_ticket_;
  ValidRequest request = planned.request;
  if (planned.context_tokens > 0) {
    auto plan = core().MakePlan(planned.policy, planned.context_tokens);
    if (!plan.ok()) return Fail(absl::StrCat("no plan: ", plan.status().ToString()));
    request.plan = *std::move(plan);
  }
  request.deadline = clock_.Now() + planned.deadline;
  if (request.max_tokens == 0) {
    request.shared_context->pinned_until = clock_.Now() + planned.pinned;
    pinned_.push_back({.tenant = request.tenant,
                       .policy = request.plan == nullptr ? "full" : PolicyName(planned.policy),
                       .tokens = request.prompt});
  }
  if (planned.cancel < absl::InfiniteDuration()) {
    At(clock_.Now() + planned.cancel, [this, ticket] {
      const auto client = live_.find(ticket);
      if (client == live_.end()) return;
      client->second->Cancelled();
      core().Cancel(ticket);
    });
  }
  const absl::Duration reading = planned.reading;
  auto client = std::make_unique<Client>(ticket, std::move(planned), scenario_.server.engine,
                                         scenario_.server.faults.fails != nullptr, clock_.Now());
  client->SetOutbox(std::make_shared<Outbox>(client->planned().outbox, [this, ticket, reading] {
    if (reading == absl::ZeroDuration()) {
      ready_.push_back(ticket);
    } else {
      At(clock_.Now() + reading, [this, ticket] { Read(ticket); });
    }
  }));
  const std::shared_ptr<Outbox> outbox = client->outbox();
  live_.emplace(ticket, std::move(client));
  ++result_.counts.requests;
  Trace(ticket);
  core().Submit(ticket, std::move(request), outbox);
}

void Simulation::RunDue() {
  while (!failed() && !events_.empty() && events_.top().time <= clock_.Now()) {
    const std::function<void()> run = events_.top().run;
    events_.pop();
    run();
    ReadReady();
  }
}

void Simulation::ReadReady() {
  while (!ready_.empty() && !failed()) {
    for (const Ticket ticket : std::exchange(ready_, {})) Read(ticket);
  }
}

void Simulation::Read(Ticket ticket) {
  const auto found = live_.find(ticket);
  if (found == live_.end() || failed()) return;
  Client& client = *found->second;
  for (lukv::Event& event : client.outbox()->Take()) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      Trace(static_cast<uint64_t>(token->token) << 32 | static_cast<uint32_t>(token->sample));
      ++received_;
      ++result_.counts.tokens;
    }
    const std::string wrong = client.Receive(std::move(event), clock_.Now());
    if (!wrong.empty()) return Fail(absl::StrCat("request ", ticket, ": ", wrong));
  }
  if (client.WantsFinish()) {
    client.ToldToFinish();
    core().Finish(ticket, 0, client.planned().finish_after);
  }
  if (!client.done()) return;
  OnEnd(client);
  live_.erase(ticket);
}

void Simulation::OnEnd(Client& client) {
  const ValidRequest& request = client.planned().request;
  const Usage& usage = client.usage();
  const std::string ended = StatusName(client.status());
  Trace(client.ticket());
  Trace(static_cast<uint64_t>(client.status().code()));
  ++result_.counts.ended[ended];
  if (usage.cached_tokens > 0) ++result_.counts.context_hits;
  // Who was refused at once never waited.
  if (usage.queue > absl::ZeroDuration() || client.received() > 0) {
    const bool admitted = client.received() > 0 || client.ok();
    stays_.push_back({.ticket = client.ticket(),
                      .standing = client.submitted() - request.priority * scenario_.server.engine.priority_ageing,
                      .submitted = client.submitted(),
                      .admitted = admitted ? client.submitted() + usage.queue : absl::InfiniteFuture(),
                      .ended = client.submitted() + usage.queue,
                      .shares = request.shared_context.has_value(),
                      .nothing_to_do = request.max_tokens == 0 && usage.cached_tokens > 0});
  }
  if (request.conversation.empty()) return Compare(client, {});

  std::vector<PastTurn>& turns = conversations_[request.conversation];
  if (usage.cached_tokens == 0) {
    turns.clear();
  } else {
    ++result_.counts.continued;
    if (turns.empty()) return Fail(absl::StrCat("request ", client.ticket(), " goes on from a turn that never was"));
  }
  Compare(client, turns);
  if (!client.ok()) return;
  const std::vector<TokenId> counted = client.counted();
  turns.push_back({.planned = client.planned(),
                   .generated = static_cast<int32_t>(client.tokens()[0].size()),
                   .counted = static_cast<int32_t>(counted.size()),
                   .ended_by_client = client.ended_by_client()});
  std::vector<TokenId> text = request.prompt;
  text.insert(text.end(), counted.begin(), counted.end());
  std::optional<PlannedRequest> next = workload_.FollowUp(client.planned(), text);
  if (!next.has_value()) return;
  At(clock_.Now() + workload_.ThinkingTime(), [this, planned = *std::move(next)] { Submit(planned); });
}

void Simulation::Compare(const Client& client, const std::vector<PastTurn>& turns) {
  if (client.received() == 0 || !draws_.Chance(options_.compared)) return;
  const SampleTokens alone = oracle_->Alone(turns, client.planned());
  ++result_.counts.compared;
  for (size_t sample = 0; sample < alone.size(); ++sample) {
    const std::vector<TokenId>& tokens = client.tokens()[sample];
    result_.counts.compared_tokens += static_cast<int64_t>(tokens.size());
    const bool whole = client.ok() && !(sample == 0 && client.ended_by_client());
    if (tokens.size() <= alone[sample].size() && std::equal(tokens.begin(), tokens.end(), alone[sample].begin()) &&
        (!whole || tokens.size() == alone[sample].size())) {
      continue;
    }
    return Fail(absl::StrCat("request ", client.ticket(), " (", client.planned().request.prompt.size(), " tokens, ",
                             PolicyName(client.planned().policy), " of ", client.planned().context_tokens, ", n ",
                             client.planned().request.n, ", ", client.usage().preemptions, " preemptions, ",
                             client.usage().cached_tokens, " cached tokens, turn ", client.planned().turn, ", ",
                             StatusName(client.status()), "): sample ", sample, " is ", absl::StrJoin(tokens, " "),
                             "; alone it is ", absl::StrJoin(alone[sample], " ")));
  }
}

// Whether there is anything left to do.
bool Simulation::Advance() {
  step_start_ = clock_.Now();
  if (core().Step()) {
    idle_calls_ = 0;
    ++result_.counts.steps;
    CheckStep();
    ReadReady();
    CheckProgress();
    return true;
  }
  ReadReady();
  if (failed()) return false;
  if (!ready_.empty()) return true;
  absl::Time next = core().NextWake();
  if (!events_.empty()) next = std::min(next, events_.top().time);
  if (workload_.left() == 0 && live_.empty() && events_.empty()) return false;
  if (next == absl::InfiniteFuture()) {
    Fail(absl::StrCat(live_.size(), " requests wait for nothing"));
    return false;
  }
  if (next <= clock_.Now() && ++idle_calls_ > kMostIdleCalls) {
    Fail("asks to be called again and again, and runs nothing");
    return false;
  }
  if (next > clock_.Now()) idle_calls_ = 0;
  clock_.AdvanceTo(next);
  return true;
}

void Simulation::CheckStep() {
  const PagePool& pool = server_->runner().pool();
  const HeadPageTable& table = server_->runner().table();
  const EngineStats stats = core().Stats();
  uint32_t held = 0;
  for (int32_t slot = 0; slot < table.n_slots(); ++slot) {
    if (table.in_use(Slot{slot})) held += table.pages_held(Slot{slot});
  }
  if (pool.used_by(PageOwner::kSequence) != held) {
    Fail(absl::StrCat("sequences hold ", held, " pages, ", pool.used_by(PageOwner::kSequence), " are given out"));
  }
  if (stats.pages_used + stats.pages_reclaimable != pool.used()) {
    Fail(absl::StrCat("the server counts ", stats.pages_used, " pages and ", stats.pages_reclaimable,
                      " that give way, ", pool.used(), " are held"));
  }
  if (stats.running > scenario_.server.engine.max_sequences) Fail(absl::StrCat(stats.running, " sequences run"));
  CheckBudget(clock_.Now() - step_start_, stats);
  Trace(static_cast<uint64_t>(absl::ToUnixNanos(clock_.Now())));
  Trace(stats.pages_used);
  Trace(static_cast<uint64_t>(stats.preemptions));
  result_.counts.checks += 3;
  if (result_.counts.steps % kFullCheckEvery == 0) CheckRows();
}

// One unit runs in every step, so that prompts get on; only what decoding leaves of the budget brings more of them, and
// they run beside decoding alone.
void Simulation::CheckBudget(absl::Duration took, const EngineStats& stats) {
  const int64_t units = stats.prefill_units - prefill_units_;
  prefill_units_ = stats.prefill_units;
  const absl::Duration budget = scenario_.server.engine.max_step;
  if (budget == absl::ZeroDuration() || units < 2 || stats.steps < kLearntSteps || scenario_.server.times.jitter > 0) {
    return;
  }
  ++result_.counts.checks;
  ++budgeted_steps_;
  budgeted_time_ += took;
  if (budgeted_steps_ >= kMeanOf && budgeted_time_ > kMeanTolerance * static_cast<double>(budgeted_steps_) * budget) {
    Fail(absl::StrCat("steps of several units take ", absl::FormatDuration(budgeted_time_ / budgeted_steps_),
                      " on average, at most ", absl::FormatDuration(budget), " are allowed"));
  }
  if (took > kBudgetTolerance * budget) {
    Fail(absl::StrCat("a step of ", units, " units took ", absl::FormatDuration(took), ", at most ",
                      absl::FormatDuration(budget), " are allowed"));
  }
}

void Simulation::CheckProgress() {
  const int64_t progress =
      core().Stats().generated_tokens + result_.counts.requests - static_cast<int64_t>(live_.size());
  if (progress != progress_) {
    progress_ = progress;
    progress_step_ = result_.counts.steps;
  } else if (result_.counts.steps - progress_step_ > kMostVainSteps) {
    Fail(absl::StrCat("nobody got anywhere in ", kMostVainSteps, " steps"));
  }
  ++result_.counts.checks;
}

void Simulation::CheckRows() {
  const std::vector<RequestRow> rows = core().Requests();
  const EngineStats stats = core().Stats();
  std::map<std::string, const Client*> clients;
  size_t reading_at_once = 0;
  for (const auto& [ticket, client] : live_) {
    clients[client->planned().request.id] = client.get();
    if (client->planned().reading == absl::ZeroDuration()) ++reading_at_once;
  }
  int32_t waiting = 0;
  uint64_t pages = 0;
  for (const RequestRow& row : rows) {
    const auto client = clients.find(row.id);
    if (client == clients.end()) {
      Fail(absl::StrCat("the server knows of a request ", row.id, ", which has ended"));
      continue;
    }
    if (client->second->planned().reading == absl::ZeroDuration()) --reading_at_once;
    if (row.state == "waiting" || row.state == "preempted") ++waiting;
    if (row.generated_tokens < client->second->received()) {
      Fail(absl::StrCat("request ", client->second->ticket(), " has more tokens than the server knows of"));
    }
    pages += row.pages;
  }
  // Of the others the last event may lie in the outbox.
  if (reading_at_once > 0 && ready_.empty()) {
    Fail(absl::StrCat("the server has forgotten ", reading_at_once, " requests"));
  }
  if (waiting != stats.waiting) Fail(absl::StrCat(waiting, " requests wait, the server counts ", stats.waiting));
  if (pages < server_->runner().pool().used_by(PageOwner::kSequence)) {
    Fail(absl::StrCat("requests say they hold ", pages, " pages, sequences hold ",
                      server_->runner().pool().used_by(PageOwner::kSequence)));
  }
  result_.counts.checks += 4;
}

// Nobody was admitted while somebody of better standing waited. Whoever waits for a context that another one computes
// is passed by.
void Simulation::CheckOrder() {
  for (const Stay& first : stays_) {
    if (first.shares) continue;
    for (const Stay& other : stays_) {
      const bool better =
          first.standing < other.standing || (first.standing == other.standing && first.ticket < other.ticket);
      if (!better || first.submitted >= other.admitted || other.nothing_to_do) continue;
      const absl::Time waited_until = std::min(first.admitted, first.ended);
      if (other.admitted < waited_until) {
        return Fail(absl::StrCat("request ", other.ticket, " was admitted while ", first.ticket, " waited (",
                                 absl::FormatDuration(other.submitted - absl::UnixEpoch()), " to ",
                                 absl::FormatDuration(other.admitted - absl::UnixEpoch()), " and ",
                                 absl::FormatDuration(first.submitted - absl::UnixEpoch()), " to ",
                                 absl::FormatDuration(waited_until - absl::UnixEpoch()), ")"));
      }
    }
  }
  result_.counts.checks += static_cast<int64_t>(stays_.size());
}

// Nobody is there any more.
void Simulation::CheckIdle() {
  for (const ContextKey& key : pinned_) core().ReleaseContext(key);
  const EngineStats stats = core().Stats();
  if (stats.running != 0 || stats.waiting != 0 || stats.waiting_tokens != 0 || stats.parked != 0) {
    Fail(absl::StrCat("with no request the server counts ", stats.running, " running, ", stats.waiting,
                      " waiting with ", stats.waiting_tokens, " tokens, ", stats.parked, " parked"));
  }
  const uint32_t held = server_->runner().pool().used();
  if (stats.pages_used != 0 || stats.pages_contexts != held || stats.kv_bytes_full != 0) {
    Fail(absl::StrCat("with no request and no pinned context ", stats.pages_used, " pages are used and ", held,
                      " held, ", stats.pages_contexts, " by contexts"));
  }
  result_.counts.checks += 2;
}

// What failed may hold anything, and would end the process if it were taken down.
void LeaveBehind(std::unique_ptr<SimulatedServer> server) {
  static Mutex mutex;
  static auto* const left = new std::vector<std::unique_ptr<SimulatedServer>>();
  MutexLock lock(&mutex);
  left->push_back(std::move(server));
}

SimulationResult Simulation::Run() {
  StartServer();
  Arrive();
  do {
    RunDue();
  } while (!failed() && Advance());
  if (!failed()) CheckIdle();
  if (!failed()) StopServer();
  result_.counts.time = clock_.Now() - absl::UnixEpoch();
  if (failed()) LeaveBehind(std::move(server_));
  return result_;
}

}  // namespace

SimulationResult Simulate(const Scenario& scenario, const SimulationOptions& options) {
  return Simulation(scenario, options).Run();
}

std::string SimulationInvariants() {
  return "checked were\n"
         "  after every step: pages given out are held by live sequences, and counted; no more sequences than allowed; "
         "the step's budget; somebody gets on\n"
         "  now and then: the server knows every live request and no other, and counts those that wait, their pages "
         "and "
         "their tokens\n"
         "  of every request: one end, with OK or a status that it can have, and nothing after it; one end of each "
         "sample, for a reason; the tokens that come alone, whatever happened; usage that adds up; no end for want of "
         "pages after the first token\n"
         "  at the end: admitted in order of standing; tokens and pages add up; nothing is held\n";
}

void SimulationCounts::Add(const SimulationCounts& other) {
  requests += other.requests;
  for (const auto& [status, n] : other.ended) ended[status] += n;
  tokens += other.tokens;
  steps += other.steps;
  preemptions += other.preemptions;
  context_hits += other.context_hits;
  continued += other.continued;
  faults += other.faults;
  restarts += other.restarts;
  compared += other.compared;
  compared_tokens += other.compared_tokens;
  checks += other.checks;
  time += other.time;
}

}  // namespace lukv
