#include "engine/engine_loop.h"

#include <algorithm>
#include <utility>

namespace lukv {
namespace {

// The table of requests is for people; a copy of it in every step would be for nobody.
constexpr absl::Duration kRequestsInterval = absl::Milliseconds(200);

}  // namespace

EngineLoop::EngineLoop(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options)
    : core_(std::move(parts), std::move(end_tokens), options, clock_) {
  Publish(/*idle=*/true);
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
  outbox->SetOnSpace([mailbox = mailbox_] {
    MutexLock lock(&mailbox->mutex);
    mailbox->inbox.space = true;
  });
  MutexLock lock(&mailbox_->mutex);
  const Ticket ticket = mailbox_->next_ticket++;
  mailbox_->inbox.submitted.push_back({.ticket = ticket, .request = std::move(request), .outbox = std::move(outbox)});
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

bool EngineLoop::ReleaseContext(const ContextKey& key) {
  const auto release = std::make_shared<Release>(Release{.key = key});
  MutexLock lock(&mailbox_->mutex);
  mailbox_->inbox.releases.push_back(release);
  mailbox_->mutex.Await([&] { return release->done; });
  return release->found;
}

EngineStats EngineLoop::Stats() const {
  MutexLock lock(&mailbox_->mutex);
  EngineStats stats = mailbox_->stats;
  // Submitted and not seen by the loop yet.
  stats.waiting += static_cast<int32_t>(mailbox_->inbox.submitted.size());
  return stats;
}

std::vector<RequestRow> EngineLoop::Requests() const {
  MutexLock lock(&mailbox_->mutex);
  return mailbox_->requests;
}

absl::Duration EngineLoop::StepAge() const {
  MutexLock lock(&mailbox_->mutex);
  return std::max(absl::ZeroDuration(), clock_.Now() - mailbox_->step_began);
}

// ---------------------------------------------------------------------------------------------------------------------
// The loop.

void EngineLoop::Run() {
  bool idle = true;
  while (true) {
    Inbox inbox = WaitForInbox(idle);
    const bool stop = inbox.stop;
    Intake(std::move(inbox));
    if (stop) break;
    idle = !core_.Step();
    Publish(idle);
  }
  core_.EndAll(absl::CancelledError("the server stops"));
  Publish(/*idle=*/true);
}

// Takes over what other threads asked for. Waits for something to come, or for the next deadline, if there is no work.
EngineLoop::Inbox EngineLoop::WaitForInbox(bool idle) {
  const absl::Time wake = idle ? core_.NextWake() : absl::InfinitePast();
  MutexLock lock(&mailbox_->mutex);
  if (idle) {
    Inbox& waiting_for = mailbox_->inbox;
    mailbox_->mutex.AwaitWithDeadline([&] { return !waiting_for.empty(); }, wake);
  }
  mailbox_->step_began = clock_.Now();
  return std::exchange(mailbox_->inbox, Inbox());
}

void EngineLoop::Intake(Inbox inbox) {
  for (Submission& submission : inbox.submitted) {
    core_.Submit(submission.ticket, std::move(submission.request), std::move(submission.outbox));
  }
  for (const Ticket ticket : inbox.cancelled) core_.Cancel(ticket);
  for (const FinishCommand& command : inbox.finished) core_.Finish(command.ticket, command.sample, command.tokens);
  for (const std::shared_ptr<Release>& release : inbox.releases) {
    const bool found = core_.ReleaseContext(release->key);
    MutexLock lock(&mailbox_->mutex);
    release->found = found;
    release->done = true;
  }
}

void EngineLoop::Publish(bool idle) {
  EngineStats stats = core_.Stats();
  const bool with_requests = idle || clock_.Now() >= next_requests_;
  std::vector<RequestRow> requests;
  if (with_requests) {
    requests = core_.Requests();
    next_requests_ = clock_.Now() + kRequestsInterval;
  }
  MutexLock lock(&mailbox_->mutex);
  mailbox_->stats = std::move(stats);
  if (with_requests) mailbox_->requests = std::move(requests);
  mailbox_->step_began = absl::InfiniteFuture();
}

}  // namespace lukv
