#include "tools/simulate/oracle.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {
namespace {

// Of the longest text.
constexpr int32_t kRooms = 8;

std::unique_ptr<SimulatedServer> RoomyServer(ServerSettings settings, VirtualClock& clock) {
  settings.faults = {};
  settings.make_backend = nullptr;
  EngineOptions& engine = settings.engine;
  engine.max_sequences = kRooms;
  engine.queue_timeout = absl::InfiniteDuration();
  engine.max_queued_requests = 1;
  engine.max_queued_tokens = int64_t{1} << 24;
  engine.max_step = absl::ZeroDuration();
  const int32_t heads = settings.shape.n_layers * settings.shape.n_kv_heads;
  settings.pages = kRooms * heads * (engine.max_context / engine.page_tokens + 2);
  auto server = SimulatedServer::Start(settings, clock);
  LUKV_CHECK(server.ok());
  return *std::move(server);
}

}  // namespace

Oracle::Oracle(const Scenario& scenario) : server_(RoomyServer(scenario.server, clock_)) {}

SampleTokens Oracle::Alone(const std::vector<PastTurn>& before, const PlannedRequest& planned) {
  // Nothing that was there before is found.
  const std::string tenant = absl::StrCat("alone ", ++last_ticket_);
  for (const PastTurn& turn : before) Run(++last_ticket_, turn, tenant);
  return Run(++last_ticket_, {.planned = planned}, tenant);
}

SampleTokens Oracle::Run(Ticket ticket, const PastTurn& turn, const std::string& tenant) {
  EngineCore& core = server_->core();
  const PlannedRequest& planned = turn.planned;
  ValidRequest request = planned.request;
  request.tenant = tenant;
  if (planned.context_tokens > 0) {
    auto plan = core.MakePlan(planned.policy, planned.context_tokens);
    LUKV_CHECK(plan.ok());
    request.plan = *std::move(plan);
  }
  SampleTokens tokens(static_cast<size_t>(request.n));
  const auto outbox = std::make_shared<Outbox>(size_t{1} << 20, nullptr);
  core.Submit(ticket, std::move(request), outbox);
  bool told = !turn.ended_by_client;
  while (true) {
    for (const Event& event : outbox->Take()) {
      if (const auto* token = std::get_if<TokenEvent>(&event)) {
        tokens[static_cast<size_t>(token->sample)].push_back(token->token);
      } else if (const auto* done = std::get_if<DoneEvent>(&event)) {
        LUKV_CHECK(done->status.ok());
        return tokens;
      }
    }
    // What is kept for the next turn may depend on when the stop string was seen.
    if (!told && static_cast<int32_t>(tokens[0].size()) == turn.generated) {
      core.Finish(ticket, 0, turn.counted);
      told = true;
      continue;
    }
    LUKV_CHECK(core.Step());
  }
}

}  // namespace lukv
