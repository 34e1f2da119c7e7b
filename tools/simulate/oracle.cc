#include "tools/simulate/oracle.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {
namespace {

// Of the longest text.
constexpr int32_t kRooms = 8;

std::unique_ptr<SimulatedServer> RoomyServer(ServerSettings settings, bool keeps, VirtualClock& clock) {
  settings.faults = {};
  settings.make_backend = nullptr;
  EngineOptions& engine = settings.engine;
  engine.share_contexts = keeps;
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

Oracle::Oracle(const Scenario& scenario) : server_(RoomyServer(scenario.server, false, clock_)) {
  if (scenario.conversation > 0 && scenario.server.engine.share_contexts) {
    keeping_ = RoomyServer(scenario.server, true, keeping_clock_);
  }
}

SampleTokens Oracle::Alone(const PlannedRequest& planned) {
  return Run(*server_, ++last_ticket_, {.planned = planned}, "");
}

SampleTokens Oracle::Conversation(const std::vector<PastTurn>& turns, const PlannedRequest& last) {
  LUKV_CHECK(keeping_ != nullptr);
  const std::string conversation = absl::StrCat("alone ", ++last_ticket_);
  for (const PastTurn& turn : turns) Run(*keeping_, ++last_ticket_, turn, conversation);
  return Run(*keeping_, ++last_ticket_, {.planned = last}, conversation);
}

SampleTokens Oracle::Run(SimulatedServer& server, Ticket ticket, const PastTurn& turn,
                         const std::string& conversation) {
  const PlannedRequest& planned = turn.planned;
  ValidRequest request = planned.request;
  request.conversation = conversation;
  if (request.shared_context.has_value()) request.shared_context->pinned_until = absl::InfinitePast();
  if (planned.context_tokens > 0) {
    auto plan = server.core().MakePlan(planned.policy, planned.context_tokens);
    LUKV_CHECK(plan.ok());
    request.plan = *std::move(plan);
  }
  SampleTokens tokens(static_cast<size_t>(request.n));
  const auto outbox = std::make_shared<Outbox>(size_t{1} << 20, nullptr);
  server.core().Submit(ticket, std::move(request), outbox);
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
      server.core().Finish(ticket, 0, turn.counted);
      told = true;
      continue;
    }
    LUKV_CHECK(server.core().Step());
  }
}

}  // namespace lukv
