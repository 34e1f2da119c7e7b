// One request of a simulation as its client sees it: what came, and whether it was allowed to come.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/outbox.h"
#include "tools/simulate/oracle.h"
#include "tools/simulate/workload.h"

namespace lukv {

class Client {
 public:
  // `faults`: the device may fail.
  Client(Ticket ticket, PlannedRequest planned, const EngineOptions& engine, bool faults, absl::Time submitted);

  // What is wrong with the event, or "".
  std::string Receive(Event event, absl::Time now);

  // The stop string was seen, and the server does not know yet.
  bool WantsFinish() const;
  void ToldToFinish() { told_to_finish_ = true; }
  void Cancelled() { cancelled_ = true; }
  void ServerStopped() { server_stopped_ = true; }

  Ticket ticket() const { return ticket_; }
  const PlannedRequest& planned() const { return planned_; }
  absl::Time submitted() const { return submitted_; }
  absl::Time deadline() const { return submitted_ + planned_.deadline; }
  const SampleTokens& tokens() const { return tokens_; }
  int64_t received() const { return received_; }
  bool done() const { return done_.has_value(); }
  bool ok() const { return done() && done_->status.ok(); }
  // REQUIRES: done()
  const absl::Status& status() const { return done_->status; }
  const Usage& usage() const { return done_->usage; }

  // Of the first sample: whether the client ended it, and the tokens that count.
  bool ended_by_client() const;
  std::vector<TokenId> counted() const;

  const std::shared_ptr<Outbox>& outbox() const { return outbox_; }
  void SetOutbox(std::shared_ptr<Outbox> outbox) { outbox_ = std::move(outbox); }

 private:
  std::string CheckToken(const TokenEvent& event);
  std::string CheckFinish(const FinishEvent& event);
  std::string CheckDone(const DoneEvent& event, absl::Time now) const;
  std::string CheckRefused(const absl::Status& status, absl::Time now) const;
  std::string CheckOk(const Usage& usage) const;

  const Ticket ticket_;
  const PlannedRequest planned_;
  const absl::Duration queue_timeout_;
  const bool faults_;
  const absl::Time submitted_;
  std::shared_ptr<Outbox> outbox_;
  SampleTokens tokens_;
  int64_t received_ = 0;
  std::vector<std::optional<FinishEvent>> finished_;
  std::optional<DoneEvent> done_;
  bool told_to_finish_ = false;
  bool cancelled_ = false;
  bool server_stopped_ = false;
};

}  // namespace lukv
