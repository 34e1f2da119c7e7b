#include "kernels/emulator/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "kernels/emulator/block.h"
#include "kernels/emulator/memory.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/shared_memory.h"

namespace lukv::emulator {
namespace {

// So many operations may wait: a device's queue is not endless either.
constexpr size_t kMaxQueued = 1000;

thread_local cudaError_t last_error = cudaSuccess;

// While operations run, device memory can be reached.
class OpenMemory {
 public:
  OpenMemory() { DeviceMemory::Get().Open(); }
  ~OpenMemory() { DeviceMemory::Get().Close(); }
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};

}  // namespace

cudaError_t Remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t PeekLastError() {
  const std::lock_guard lock(Runtime::Get().mutex());
  const cudaError_t context = Runtime::Get().context_error();
  return context != cudaSuccess ? context : last_error;
}

cudaError_t TakeLastError() {
  const cudaError_t error = PeekLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t Refuse(const char* function, const std::string& why, cudaError_t error) {
  std::fprintf(stderr, "lukv emulator: %s: %s\n", function, why.c_str());
  return error;
}

Runtime& Runtime::Get() {
  static Runtime* const runtime = new Runtime;
  return *runtime;
}

Runtime::Runtime() {
  streams_.push_back(std::make_unique<CUstream_st>());
  if (const char* const seed = std::getenv("LUKV_EMULATOR_SEED"); seed != nullptr) {
    Seed(static_cast<unsigned>(std::strtoul(seed, nullptr, 10)));
    SeedScheduler(static_cast<unsigned>(random_));
  }
}

CUstream_st* Runtime::Find(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return streams_.front().get();
  for (const auto& known : streams_) {
    if (known.get() == stream) return stream;
  }
  return nullptr;
}

CUstream_st* Runtime::CreateStream(bool blocking) {
  streams_.push_back(std::make_unique<CUstream_st>());
  streams_.back()->blocking = blocking;
  return streams_.back().get();
}

void Runtime::DestroyStream(CUstream_st* stream) {
  Drain(stream);
  std::erase_if(streams_, [stream](const auto& known) { return known.get() == stream; });
}

void Runtime::Enqueue(CUstream_st* stream, Queued queued) {
  queued.sequence = next_sequence_++;
  stream->queue.push_back(std::move(queued));
  ++stream->issued;
  if (++n_queued_ > kMaxQueued) DrainAll();
}

cudaError_t Runtime::Issue(CUstream_st* stream, Operation operation) {
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    stream->capture->operations.push_back(std::move(operation));
    ++stream->captured;
    return cudaSuccess;
  }
  // The default stream waits for blocking ones: those that are captured cannot be waited for.
  if (stream == streams_.front().get()) {
    for (const auto& capture : captures_) {
      if (capture->origin->blocking) {
        Invalidate(*capture);
        return cudaErrorStreamCaptureImplicit;
      }
    }
  }
  Enqueue(stream, {.run = std::move(operation)});
  return context_error_;
}

void Runtime::IssueRecording(CUstream_st* stream, const std::shared_ptr<Recording>& recording) {
  recording->stream = stream;
  recording->position = stream->issued + 1;
  Enqueue(stream, {.records = recording});
}

void Runtime::IssueWait(CUstream_st* stream, const std::shared_ptr<Recording>& recording) {
  Enqueue(stream, {.awaits = recording});
}

// Whether nothing that the head of the stream's queue has to wait for is still to be done.
bool Runtime::CanRun(const CUstream_st& stream) const {
  if (stream.queue.empty()) return false;
  const Queued& head = stream.queue.front();
  if (head.awaits != nullptr && !head.awaits->done) return false;
  const CUstream_st& plain = *streams_.front();
  const auto has_older = [&head](const CUstream_st& other) {
    return !other.queue.empty() && other.queue.front().sequence < head.sequence;
  };
  if (&stream != &plain) return !stream.blocking || !has_older(plain);
  return std::none_of(streams_.begin() + 1, streams_.end(),
                      [&](const auto& other) { return other->blocking && has_older(*other); });
}

void Runtime::RunHead(CUstream_st& stream) {
  Queued head = std::move(stream.queue.front());
  stream.queue.pop_front();
  --n_queued_;
  if (head.run != nullptr) {
    if (const cudaError_t error = head.run(); error != cudaSuccess) EndContext(error);
  }
  if (head.records != nullptr) {
    head.records->done = true;
    head.records->time = std::chrono::steady_clock::now();
  }
  if (context_error_ == cudaSuccess) ++stream.executed;
}

// A stream that can go on: mostly the one that is waited for, any other now and then.
CUstream_st* Runtime::Choose(CUstream_st* preferred) {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  const size_t random = random_ >> 40;
  if (preferred != nullptr && random % 4 != 0 && CanRun(*preferred)) return preferred;
  for (size_t i = 0; i < streams_.size(); ++i) {
    CUstream_st* const stream = streams_[(random / 4 + i) % streams_.size()].get();
    if (CanRun(*stream)) return stream;
  }
  return nullptr;
}

cudaError_t Runtime::Drain(CUstream_st* stream, uint64_t position) {
  const OpenMemory open;
  while (context_error_ == cudaSuccess && stream->executed < position) RunHead(*Choose(stream));
  return context_error_;
}

cudaError_t Runtime::DrainAll() {
  const OpenMemory open;
  while (n_queued_ > 0) RunHead(*Choose(nullptr));
  return context_error_;
}

cudaError_t Runtime::Step() {
  const OpenMemory open;
  if (n_queued_ > 0) RunHead(*Choose(nullptr));
  return context_error_;
}

cudaError_t Runtime::ForbidWhileCapturing() {
  for (const auto& capture : captures_) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id()) continue;
    Invalidate(*capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}

void Runtime::StartCapture(CUstream_st* stream, cudaStreamCaptureMode mode) {
  stream->capture = std::make_shared<Capture>();
  stream->capture->id = next_capture_++;
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->captured = 0;
  stream->joined = 0;
  captures_.push_back(stream->capture);
}

bool Runtime::EndCapture(Capture& capture) {
  bool all_joined = true;
  for (const auto& stream : streams_) {
    if (stream->capture.get() != &capture || stream.get() == capture.origin) continue;
    all_joined &= stream->joined == stream->captured;
    stream->capture = nullptr;
  }
  std::erase_if(captures_, [&capture](const auto& other) { return other.get() == &capture; });
  capture.origin->capture = nullptr;
  return all_joined;
}

void Runtime::EndContext(cudaError_t error) {
  context_error_ = error;
  for (const auto& stream : streams_) {
    for (const Queued& queued : stream->queue) {
      if (queued.records != nullptr) queued.records->done = true;
    }
    stream->queue.clear();
    stream->executed = stream->issued;
  }
  n_queued_ = 0;
}

void Runtime::ClearError() {
  EndContext(cudaSuccess);
  for (const auto& stream : streams_) stream->capture = nullptr;
  captures_.clear();
  last_error = cudaSuccess;
  ClearReport();
}

size_t Runtime::DynamicLimit(const void* function) const {
  const auto found = dynamic_limits_.find(function);
  return found == dynamic_limits_.end() ? kPlainSharedBytes : found->second;
}

// More than 48 KiB in all must have been asked for: CUDA C++ programming guide, compute capability 9.0, "Shared
// Memory".
size_t Runtime::SharedLimit(const void* function) const {
  return dynamic_limits_.contains(function) ? kMaxDynamicShared : kPlainSharedBytes;
}

bool Runtime::FailsNow() {
  ++calls_;
  return fail_after_ > 0 && --fail_after_ == 0;
}

}  // namespace lukv::emulator
