#include "tools/simulate/workload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {
namespace {

constexpr const char* kPolicies[] = {"uniform+expected_attention@0.5",
                                     "uniform+snapkv@0.6:queries=8,window=8",
                                     "uniform+keydiff@0.7",
                                     "uniform+knorm@0.5",
                                     "uniform+streaming_llm@0.8",
                                     "uniform+random@0.5",
                                     "adakv+expected_attention@0.6",
                                     "adakv+keydiff@0.8:alpha=0",
                                     "adakv+snapkv@0.5:queries=4,window=4",
                                     "lukv+expected_attention@0.8",
                                     "lukv+snapkv@0.5",
                                     "lukv+keydiff@0.6",
                                     "pyramidkv+expected_attention@0.5",
                                     "uniform+knorm@16tokens"};

// A chance that most runs do not have at all, so that each matters by itself.
double Sometimes(Random& random, double runs, double most) { return random.Chance(runs) ? most * random.Unit() : 0; }

ServerSettings MakeServer(uint64_t seed, Random random, int32_t longest_text) {
  ServerSettings server;
  server.shape.n_layers = random.Between(2, 3);
  server.shape.n_kv_heads = random.Between(1, 2);
  server.shape.n_heads = 2;
  EngineOptions& engine = server.engine;
  engine.kv_dtype = random.OneOf({DType::kBF16, DType::kF32});
  engine.page_tokens = random.OneOf({4, 8, 16});
  engine.max_sequences = random.Between(2, 16);
  engine.max_context = server.shape.context_length;
  engine.prefill_chunk = random.OneOf({16, 32, 64, 256});
  engine.min_evicted_context = random.OneOf({1, 16});
  engine.generation_reserve = random.OneOf({1, 4, 8, 16, 64});
  engine.max_queued_requests = random.OneOf({8, 64, 1024, 1024});
  engine.max_queued_tokens = random.OneOf({1000, 1 << 24, 1 << 24});
  engine.queue_timeout = random.OneOf({absl::Milliseconds(200), absl::Seconds(2), absl::InfiniteDuration()});
  engine.priority_ageing = random.OneOf({absl::Milliseconds(50), absl::Seconds(1), absl::Seconds(10)});
  engine.max_step = random.OneOf({absl::ZeroDuration(), absl::ZeroDuration(), absl::Milliseconds(20)});
  engine.slow_client_timeout = random.OneOf({absl::Milliseconds(300), absl::Seconds(5)});
  engine.share_contexts = random.Chance(0.9);
  engine.max_pinned_contexts = random.OneOf({0.1, 0.5, 1.0});
  // From less than the longest text to room for many.
  const int32_t heads = server.shape.n_layers * server.shape.n_kv_heads;
  const double texts = random.OneOf({1.0, 1.5, 2.0, 4.0, 16.0});
  server.pages = std::max(heads, static_cast<int32_t>(texts * longest_text / engine.page_tokens * heads));
  server.times.seed = random.Next();
  server.times.jitter = random.OneOf({0.0, 0.1, 0.5});
  const double skew = 0.5 + random.Unit();
  server.times.flops_per_second *= skew;
  server.times.bytes_per_second *= skew;
  if (random.Chance(0.25)) {
    const uint64_t fault_seed = Mix(seed, 77);
    const double rate = 1 / (500.0 * (1 + 40 * random.Unit()));
    server.faults.fails = [fault_seed, rate](int64_t call) {
      return Random(Mix(fault_seed, static_cast<uint64_t>(call))).Chance(rate);
    };
  }
  return server;
}

}  // namespace

Scenario MakeScenario(uint64_t seed, int32_t requests) {
  Random random(Mix(seed, 1));
  Scenario scenario{.seed = seed, .requests = requests};
  scenario.longest_prompt = random.OneOf({12, 40, 100, 300});
  scenario.longest_output = random.OneOf({4, 20, 60});
  scenario.server = MakeServer(seed, random.Fork(), scenario.longest_prompt + scenario.longest_output);
  scenario.between = absl::Milliseconds(random.OneOf({2, 5, 10, 30, 100}));
  scenario.burst = Sometimes(random, 0.5, 0.8);
  scenario.restart = Sometimes(random, 0.15, 0.05);
  scenario.release = Sometimes(random, 0.3, 0.2);
  scenario.cancel = Sometimes(random, 0.5, 0.3);
  scenario.deadline = Sometimes(random, 0.4, 0.5);
  scenario.storm = random.Chance(0.3);
  scenario.slow_reader = Sometimes(random, 0.4, 0.4);
  scenario.shared = Sometimes(random, 0.6, 0.9);
  scenario.conversation = Sometimes(random, 0.4, 0.5);
  scenario.evicted = Sometimes(random, 0.6, 1);
  scenario.many_samples = Sometimes(random, 0.5, 0.5);
  scenario.stopped = Sometimes(random, 0.4, 0.3);
  scenario.tenants = random.Between(1, 3);
  return scenario;
}

Workload::Workload(const Scenario& scenario)
    : scenario_(scenario), random_(Mix(scenario.seed, 2)), left_(scenario.requests) {
  for (int32_t i = random_.Between(1, 6); i > 0; --i) {
    contexts_.push_back({.tenant = absl::StrCat("tenant", random_.Between(1, scenario_.tenants)),
                         .tokens = Tokens(random_.Between(1, std::max(2, scenario_.longest_prompt * 3 / 4))),
                         .policy = AnyPolicy()});
  }
}

std::vector<TokenId> Workload::Tokens(int32_t n) {
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(random_.Between(0, scenario_.server.shape.vocabulary - 1));
  return tokens;
}

Policy Workload::AnyPolicy() {
  if (!random_.Chance(scenario_.evicted)) return Policy();
  auto policy = ParsePolicy(kPolicies[random_.Next() % std::size(kPolicies)]);
  LUKV_CHECK(policy.ok());
  return *policy;
}

absl::Duration Workload::NextPause() {
  if (random_.Chance(scenario_.burst)) return absl::ZeroDuration();
  return absl::Nanoseconds(static_cast<int64_t>(random_.Exponential() * absl::ToDoubleNanoseconds(scenario_.between)));
}

void Workload::AddContext(PlannedRequest& planned) {
  ValidRequest& request = planned.request;
  if (random_.Chance(scenario_.shared)) {
    const Context& context = contexts_[random_.Next() % contexts_.size()];
    request.tenant = context.tenant;
    request.prompt = context.tokens;
    planned.policy = context.policy;
    planned.context_tokens = static_cast<int32_t>(context.tokens.size());
    request.shared_context = SharedContextUse{.n_tokens = planned.context_tokens};
    if (random_.Chance(0.1)) request.max_tokens = 0;
    const std::vector<TokenId> question =
        Tokens(request.max_tokens == 0 ? 0 : random_.Between(0, std::max(1, scenario_.longest_prompt / 4)));
    request.prompt.insert(request.prompt.end(), question.begin(), question.end());
    if (request.max_tokens == 0) request.n = 1;
    return;
  }
  request.prompt = Tokens(random_.Between(1, scenario_.longest_prompt));
  planned.policy = AnyPolicy();
  if (!planned.policy.full) planned.context_tokens = random_.Between(1, static_cast<int32_t>(request.prompt.size()));
  if (random_.Chance(scenario_.conversation)) {
    request.n = 1;
    request.conversation = absl::StrCat("conversation", number_);
  }
}

void Workload::AddBehaviour(PlannedRequest& planned) {
  ValidRequest& request = planned.request;
  if (random_.Chance(0.3)) request.priority = random_.Between(-2, 2);
  if (random_.Chance(scenario_.deadline)) {
    planned.deadline = scenario_.storm ? absl::Milliseconds(500) : absl::Milliseconds(random_.Between(1, 1500));
  }
  if (random_.Chance(scenario_.cancel)) planned.cancel = absl::Milliseconds(random_.Between(0, 400));
  if (random_.Chance(scenario_.slow_reader)) {
    planned.outbox = static_cast<size_t>(random_.Between(1, 8));
    planned.reading = random_.Chance(0.15) ? absl::Seconds(20) : absl::Milliseconds(random_.Between(1, 600));
  }
  if (random_.Chance(scenario_.stopped)) planned.finish_after = random_.Between(1, scenario_.longest_output);
}

PlannedRequest Workload::Next() {
  LUKV_CHECK(left_ > 0);
  --left_;
  PlannedRequest planned;
  ValidRequest& request = planned.request;
  request.id = absl::StrCat("r", ++number_);
  request.tenant = absl::StrCat("tenant", random_.Between(1, scenario_.tenants));
  request.n = random_.Chance(scenario_.many_samples) ? random_.Between(2, 4) : 1;
  request.max_tokens = random_.Between(1, scenario_.longest_output);
  request.min_tokens = random_.Chance(0.1) ? random_.Between(0, request.max_tokens) : 0;
  if (random_.Chance(0.1)) request.stop_ids = Tokens(random_.Between(1, 3));
  request.ignore_eos = random_.Chance(0.3);
  request.sampling.temperature = random_.Chance(0.5) ? 0.0f : 0.8f;
  request.sampling.seed = random_.Next();
  if (random_.Chance(0.1)) request.sampling.repetition_penalty = 1.1f;
  if (random_.Chance(0.1)) request.sampling.presence_penalty = 0.5f;
  request.logprobs = random_.Chance(0.2);
  request.top_logprobs = request.logprobs ? random_.Between(0, 5) : 0;
  AddContext(planned);
  request.min_tokens = std::min(request.min_tokens, request.max_tokens);
  AddBehaviour(planned);
  if (request.max_tokens == 0) planned.pinned = absl::Milliseconds(random_.OneOf({100, 2000, 1 << 24}));
  return planned;
}

std::optional<ContextKey> Workload::NextRelease() {
  if (!random_.Chance(scenario_.release)) return std::nullopt;
  const Context& context = contexts_[random_.Next() % contexts_.size()];
  return ContextKey{.tenant = context.tenant, .policy = PolicyName(context.policy), .tokens = context.tokens};
}

std::optional<PlannedRequest> Workload::FollowUp(const PlannedRequest& last, const std::vector<TokenId>& text) {
  if (left_ <= 0 || !random_.Chance(0.7)) return std::nullopt;
  PlannedRequest planned = last;
  ValidRequest& request = planned.request;
  const std::vector<TokenId> question = Tokens(random_.Between(1, std::max(1, scenario_.longest_prompt / 4)));
  request.prompt = text;
  request.prompt.insert(request.prompt.end(), question.begin(), question.end());
  if (static_cast<int32_t>(request.prompt.size()) + request.max_tokens > scenario_.server.engine.max_context) {
    return std::nullopt;
  }
  --left_;
  request.id = absl::StrCat("r", ++number_);
  request.sampling.seed = random_.Next();
  planned.deadline = absl::InfiniteDuration();
  planned.cancel = absl::InfiniteDuration();
  AddBehaviour(planned);
  request.priority = last.request.priority;
  ++planned.turn;
  return planned;
}

}  // namespace lukv
