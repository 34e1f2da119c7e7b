// The state behind the runtime API: streams, what is queued on them, recordings, errors. Everything under one lock.
//
// Streams are queues that run only when somebody waits for something (or many operations wait): whatever an operation
// reads must still be there then. A waiting thread runs them, also those of other streams now and then.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace lukv::emulator {

inline constexpr size_t kPlainSharedBytes = 48 * 1024;

// Does the work. An error ends the context: every later call returns it.
using Operation = std::function<cudaError_t()>;

// That an event was recorded: waits mean the recording that was the latest when they were asked for.
struct Recording {
  CUstream_st* stream = nullptr;
  uint64_t position = 0;  // Done when the stream has come this far.
  bool done = false;
  std::chrono::steady_clock::time_point time;
};

struct Queued {
  uint64_t sequence = 0;               // Over all streams.
  Operation run;                       // Null for the others:
  std::shared_ptr<Recording> records;  // An event.
  std::shared_ptr<Recording> awaits;   // Another stream's.
};

struct Capture {
  uint64_t id = 0;
  CUstream_st* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalid = false;
  std::vector<Operation> operations;  // In the order of the calls, which no dependency contradicts.
};

}  // namespace lukv::emulator

struct CUstream_st {
  bool blocking = true;  // Orders itself with the default stream.
  std::deque<lukv::emulator::Queued> queue;
  uint64_t issued = 0;
  uint64_t executed = 0;
  std::shared_ptr<lukv::emulator::Capture> capture;
  uint64_t captured = 0;  // Operations in this capture.
  uint64_t joined = 0;    // How many of them the capture's origin waits for.
};

struct CUevent_st {
  bool timing = true;
  std::shared_ptr<lukv::emulator::Recording> recording;
  // Where it was recorded in a capture.
  std::shared_ptr<lukv::emulator::Capture> capture;
  CUstream_st* captured_stream = nullptr;
  uint64_t captured_position = 0;
};

struct CUgraph_st {
  std::vector<lukv::emulator::Operation> operations;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<lukv::emulator::Operation>> operations;
};

namespace lukv::emulator {

class Runtime {
 public:
  static Runtime& Get();

  std::recursive_mutex& mutex() { return mutex_; }

  // Null if it is none that exists.
  CUstream_st* Find(cudaStream_t stream);
  CUstream_st* CreateStream(bool blocking);
  void DestroyStream(CUstream_st* stream);
  bool IsEvent(cudaEvent_t event) const { return events_.contains(event); }
  void AddEvent(cudaEvent_t event) { events_.insert(event); }
  void RemoveEvent(cudaEvent_t event) { events_.erase(event); }
  void CountObject(int change) { n_objects_ += change; }
  // Streams, events, graphs and what cuBLASLt gave out that were not destroyed.
  int64_t live_objects() const { return static_cast<int64_t>(streams_.size() - 1 + events_.size()) + n_objects_; }

  // Queues the operation, or records it if the stream is being captured.
  cudaError_t Issue(CUstream_st* stream, Operation operation);
  void IssueRecording(CUstream_st* stream, const std::shared_ptr<Recording>& recording);
  void IssueWait(CUstream_st* stream, const std::shared_ptr<Recording>& recording);
  // Runs what is queued: on a stream up to a position, up to a recording, everything; one operation if there is any.
  cudaError_t Drain(CUstream_st* stream, uint64_t position);
  cudaError_t Drain(CUstream_st* stream) { return Drain(stream, stream->issued); }
  cudaError_t Drain(const Recording& recording) {
    return recording.done ? context_error_ : Drain(recording.stream, recording.position);
  }
  cudaError_t DrainAll();
  cudaError_t Step();

  // Ends the capture of the stream: it is of no use any more.
  void Invalidate(Capture& capture) { capture.invalid = true; }
  // A call that is not allowed while this thread captures: cudaSuccess if it does not.
  cudaError_t ForbidWhileCapturing();
  void StartCapture(CUstream_st* stream, cudaStreamCaptureMode mode);
  // Takes all streams out of the capture. Whether the origin waits for all of them.
  bool EndCapture(Capture& capture);

  // The error that ended the context, or cudaSuccess.
  cudaError_t context_error() const { return context_error_; }
  void EndContext(cudaError_t error);
  // As a new process: no error, nothing queued or captured. Memory, streams and events stay.
  void ClearError();

  // What a launch of the function may ask for, and what its blocks may have with static arrays.
  size_t DynamicLimit(const void* function) const;
  size_t SharedLimit(const void* function) const;
  void SetDynamicLimit(const void* function, size_t bytes) { dynamic_limits_[function] = bytes; }

  // Counts a call that may fail; true if this one shall.
  bool FailsNow();
  void FailAfter(int calls) { fail_after_ = calls; }
  int64_t calls() const { return calls_; }

  void NarrowAlgorithms(bool narrow) { narrow_algorithms_ = narrow; }
  bool narrow_algorithms() const { return narrow_algorithms_; }

  void Seed(unsigned seed) { random_ = seed; }

 private:
  Runtime();
  bool CanRun(const CUstream_st& stream) const;
  void RunHead(CUstream_st& stream);
  CUstream_st* Choose(CUstream_st* preferred);
  void Enqueue(CUstream_st* stream, Queued queued);

  std::recursive_mutex mutex_;
  std::vector<std::unique_ptr<CUstream_st>> streams_;  // The default stream first.
  std::unordered_set<cudaEvent_t> events_;
  int64_t n_objects_ = 0;
  std::vector<std::shared_ptr<Capture>> captures_;  // Under way.
  uint64_t next_sequence_ = 0;
  uint64_t next_capture_ = 1;
  size_t n_queued_ = 0;
  uint64_t random_ = 1;
  cudaError_t context_error_ = cudaSuccess;
  std::unordered_map<const void*, size_t> dynamic_limits_;  // By cudaFuncSetAttribute.
  int64_t calls_ = 0;
  int fail_after_ = -1;
  bool narrow_algorithms_ = false;
};

// Every function of the API is one of these.
// What the thread's last error was; reading it forgets it (cudaGetLastError).
cudaError_t Remember(cudaError_t error);
cudaError_t PeekLastError();
cudaError_t TakeLastError();

// A call that can fail: under the lock, after the context's error and injected ones.
template <typename Body>
cudaError_t Call(Body&& body, cudaError_t injected = cudaErrorUnknown) {
  Runtime& runtime = Runtime::Get();
  const std::lock_guard lock(runtime.mutex());
  if (runtime.context_error() != cudaSuccess) return Remember(runtime.context_error());
  if (runtime.FailsNow()) return Remember(injected);
  return Remember(body(runtime));
}

// One that gives something back: it does its work also where others would fail, and is not among those that are made
// to.
template <typename Body>
cudaError_t Release(Body&& body) {
  Runtime& runtime = Runtime::Get();
  const std::lock_guard lock(runtime.mutex());
  const cudaError_t error = body(runtime);
  return Remember(runtime.context_error() != cudaSuccess ? runtime.context_error() : error);
}

// Says on stderr why a call of the API fails, where the error's name does not.
cudaError_t Refuse(const char* function, const std::string& why, cudaError_t error);

}  // namespace lukv::emulator
