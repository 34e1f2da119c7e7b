#include "tools/load/generator.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

double OrNever(absl::Duration duration) {
  return duration == absl::ZeroDuration() ? kNever : absl::ToDoubleSeconds(duration);
}

}  // namespace

Generator::Generator(const LoadOptions& options, RequestPlanner planner, std::unique_ptr<Connections> connections)
    : options_(options), planner_(std::move(planner)), connections_(std::move(connections)) {}

absl::StatusOr<LoadRun> Generator::Run() {
  const absl::Status sent = SendAll();
  run_.sending_seconds = clock_.Now();
  if (!sent.ok()) Stop();
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  const auto over = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty() || run_.intruder.has_value(); };
  MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithDeadline(over, absl::Now() + options_.drain)) {
    for (LoadCall* call : live_) call->GiveUp();
  } else {
    // What the streams do after the intruder is of no interest.
    for (LoadCall* call : live_) call->Cancel();
  }
  // A call that is cancelled ends on this side whatever the server does.
  mutex_.Await(idle);
  run_.seconds = clock_.Now();
  run_.connections_killed = connections_->killed();
  LUKV_RETURN_IF_ERROR(sent);
  return std::move(run_);
}

void Generator::Stop() {
  MutexLock lock(&mutex_);
  stop_ = true;
  for (LoadCall* call : live_) call->Cancel();
}

bool Generator::MaySend() const {
  return stop_ ||
         (MoreToSend() && options_.concurrency > 0 && live_.size() < static_cast<size_t>(options_.concurrency));
}

absl::Status Generator::SendAll() {
  const bool open = options_.rate > 0;
  const double end = OrNever(options_.duration);
  const double kill_every = OrNever(options_.kill_every);
  double next_kill = kill_every;
  double next_arrival = open ? planner_.NextGap() : kNever;
  double intruder = options_.intruder_tokens > 0 ? absl::ToDoubleSeconds(options_.intruder_at) : kNever;
  while (MoreToSend() || intruder != kNever) {
    const double wake = std::min({next_kill, MoreToSend() ? next_arrival : kNever, intruder, end});
    {
      const auto may_send = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return MaySend(); };
      MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(may_send, absl::Now() + absl::Seconds(wake - clock_.Now()));
      if (stop_) return absl::OkStatus();
    }
    const double now = clock_.Now();
    if (now >= end) return absl::OkStatus();
    if (now >= next_kill) {
      LUKV_RETURN_IF_ERROR(connections_->Kill());
      next_kill += kill_every;
    } else if (now >= intruder) {
      intruder = kNever;
      Send(planner_.Intruder(), now);
    } else if (!open) {
      bool room = false;
      {
        MutexLock lock(&mutex_);
        room = MaySend();
      }
      if (room) Send(planner_.Request(run_.sent), now);
    } else if (MoreToSend() && now >= next_arrival) {
      Send(planner_.Request(run_.sent), next_arrival);
      next_arrival += planner_.NextGap();
    }
  }
  return absl::OkStatus();
}

void Generator::Send(PlannedRequest plan, double due) {
  const bool slow = plan.manner == Manner::kSlow;
  if (plan.index >= 0) ++run_.sent;
  std::shared_ptr<Connection> connection =
      slow ? connections_->Slow() : connections_->For(std::max(int64_t{0}, plan.index));
  auto* call = new LoadCall(std::move(plan), options_, std::move(connection), clock_, due,
                            [this](LoadCall* ended, RequestRecord record) { OnEnd(ended, std::move(record)); });
  {
    MutexLock lock(&mutex_);
    live_.insert(call);
  }
  call->Start();
}

void Generator::OnEnd(LoadCall* call, RequestRecord record) {
  MutexLock lock(&mutex_);
  if (record.index < 0) {
    run_.intruder = std::move(record);
  } else {
    run_.records.push_back(std::move(record));
  }
  live_.erase(call);
}

}  // namespace lukv
