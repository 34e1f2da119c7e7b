// The emulated runtime API: memory, streams, events, graphs, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/emulator/control.h"
#include "tests/emulator/device_array.h"

namespace lukv::cuda {

__global__ void AddKernel(int* values, int value) { values[threadIdx.x] += value; }
__global__ void DoubleKernel(int* values) { values[threadIdx.x] *= 2; }
__global__ void DynamicKernel(int* out) {
  LUKV_DYNAMIC_SHARED(int, values);
  const unsigned last = 1024 / sizeof(int) - 1;
  values[last] = 7;
  out[0] = values[last];
}
__global__ void StaticAndDynamicKernel(int* out) {
  LUKV_SHARED(int, values, 1024);
  values[threadIdx.x] = 7;
  out[0] = values[threadIdx.x];
}
__global__ void DivergeKernel() {
  if (threadIdx.x == 0) __syncwarp();
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Everything a test makes must be given back, and no error may be left.
class RuntimeTest : public ::testing::Test {
 protected:
  RuntimeTest() {
    lukv_emulator_set_seed(1);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned_), kN * sizeof(int)), cudaSuccess);
    std::iota(pinned_, pinned_ + kN, 0);
  }
  ~RuntimeTest() override {
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    cudaGetLastError();
    EXPECT_EQ(lukv_emulator_live_allocations(), 0);
  }

  cudaError_t Add(int* values, int value, cudaStream_t stream) {
    return cuda::Launch(stream, &cuda::AddKernel, 1, kN, 0, values, value);
  }

  static constexpr int kN = 8;
  cudaStream_t stream_ = nullptr;
  int* pinned_ = nullptr;  // [kN]: 0, 1, 2, ...
};

using MemoryTest = RuntimeTest;

TEST_F(MemoryTest, CopiesAndFills) {
  const DeviceArray<int> a(std::vector<int>(kN, 3));
  const DeviceArray<int> b(std::vector<int>(kN, 4));
  EXPECT_EQ(cudaMemcpy(a.get(), pinned_, kN * sizeof(int), cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(b.get(), a.get(), kN * sizeof(int), cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_THAT(b.Read(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(cudaMemset(b.get(), 1, 2 * sizeof(int)), cudaSuccess);
  EXPECT_THAT(b.Read(), ElementsAre(0x01010101, 0x01010101, 2, 3, 4, 5, 6, 7));
  int host[2] = {};
  EXPECT_EQ(cudaMemcpy(host, b.get() + 4, sizeof(host), cudaMemcpyDefault), cudaSuccess);
  EXPECT_THAT(host, ElementsAre(4, 5));
}

TEST_F(MemoryTest, RefusesWhatIsNotTheDevices) {
  const DeviceArray<int> a(std::vector<int>(kN, 3));
  int host[kN + 1] = {};
  EXPECT_EQ(cudaMemcpy(a.get(), host, sizeof(host), cudaMemcpyHostToDevice), cudaErrorInvalidValue) << "too long";
  EXPECT_EQ(cudaMemcpy(host, a.get() + 1, kN * sizeof(int), cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(a.get(), host, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue) << "the wrong way";
  EXPECT_EQ(cudaMemcpy(host, pinned_, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(a.get(), 0, sizeof(host)), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(a.get() + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_THAT(a.Read(), Each(3));
}

TEST_F(MemoryTest, RunsOut) {
  constexpr size_t kMegabyte = size_t{1} << 20;
  size_t before = 0;
  size_t total = 0;
  lukv_emulator_set_memory(100 * kMegabyte);
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  EXPECT_EQ(total, 100 * kMegabyte);
  void* big = nullptr;
  void* more = &big;
  EXPECT_EQ(cudaMalloc(&big, 80 * kMegabyte), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&more, 30 * kMegabyte), cudaErrorMemoryAllocation);
  EXPECT_EQ(more, nullptr);
  size_t now = 0;
  ASSERT_EQ(cudaMemGetInfo(&now, &total), cudaSuccess);
  EXPECT_EQ(before - now, 80 * kMegabyte);
  EXPECT_EQ(cudaFree(big), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&more, 30 * kMegabyte), cudaSuccess) << "not an error that stays";
  EXPECT_EQ(cudaFree(more), cudaSuccess);
  lukv_emulator_set_memory(size_t{4} << 30);
}

TEST_F(MemoryTest, OfAStream) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMallocAsync(&memory, kN * sizeof(int), stream_), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, kN * sizeof(int), stream_), cudaSuccess);
  EXPECT_EQ(Add(static_cast<int*>(memory), 5, stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned_, memory, kN * sizeof(int), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(cudaFreeAsync(memory, stream_), cudaSuccess);
  EXPECT_EQ(pinned_[3], 3) << "nothing ran";
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(pinned_[3], 5);
  EXPECT_EQ(lukv_emulator_live_allocations(), 2) << "the stream and the pinned memory";
}

using StreamTest = RuntimeTest;

TEST_F(StreamTest, RunsWhenSomebodyWaits) {
  const DeviceArray<int> a(std::vector<int>(kN, 0));
  int pageable[kN] = {10, 11, 12, 13, 14, 15, 16, 17};
  // Pinned memory is read when the copy runs, other memory when it is asked for.
  EXPECT_EQ(cudaMemcpyAsync(a.get(), pinned_, 4 * sizeof(int), cudaMemcpyHostToDevice, stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(a.get() + 4, pageable + 4, 4 * sizeof(int), cudaMemcpyHostToDevice, stream_), cudaSuccess);
  EXPECT_EQ(Add(a.get(), 100, stream_), cudaSuccess);
  pinned_[2] = 50;
  pageable[6] = 51;
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_THAT(a.Read(), ElementsAre(100, 101, 150, 103, 114, 115, 116, 117));
  // A copy to pageable memory waits, one to pinned memory does not.
  EXPECT_EQ(cudaMemcpyAsync(pinned_, a.get(), sizeof(int), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 0);
  EXPECT_EQ(cudaMemcpyAsync(pageable, a.get(), sizeof(int), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(pageable[0], 100);
  EXPECT_EQ(pinned_[0], 100) << "it came before";
}

TEST_F(StreamTest, FreedMemoryWaitsForWhatUsesIt) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, kN * sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, kN * sizeof(int), stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned_, memory, sizeof(int), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  pinned_[0] = 1;
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(pinned_[0], 0);
}

// Two streams that nothing orders: over some seeds both orders are seen; an event leaves only one.
TEST_F(StreamTest, EventsOrderStreams) {
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  for (const bool ordered : {false, true}) {
    std::set<int> results;
    for (unsigned seed = 1; seed <= 30; ++seed) {
      lukv_emulator_set_seed(seed);
      const DeviceArray<int> a(std::vector<int>(kN, 1));
      EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess);
      EXPECT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
      if (ordered) {
        EXPECT_EQ(cudaStreamWaitEvent(other, event, 0), cudaSuccess);
      }
      EXPECT_EQ(cuda::Launch(other, &cuda::DoubleKernel, 1, kN, 0, a.get()), cudaSuccess);
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      results.insert(a.Read()[0]);
    }
    EXPECT_EQ(results, ordered ? std::set<int>({4}) : std::set<int>({3, 4}));
  }
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

// Waiting for one stream runs what it waits for in another.
TEST_F(StreamTest, WaitsReachOtherStreams) {
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  const DeviceArray<int> a(std::vector<int>(kN, 1));
  EXPECT_EQ(Add(a.get(), 1, other), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, other), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, event, 0), cudaSuccess);
  EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_THAT(a.Read(), Each(3));
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

// The default stream and blocking ones go in the order of the calls.
TEST_F(StreamTest, TheDefaultStreamOrdersBlockingOnes) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  for (unsigned seed = 1; seed <= 20; ++seed) {
    lukv_emulator_set_seed(seed);
    const DeviceArray<int> a(std::vector<int>(kN, 1));
    EXPECT_EQ(Add(a.get(), 1, blocking), cudaSuccess);
    EXPECT_EQ(cuda::Launch(nullptr, &cuda::DoubleKernel, 1, kN, 0, a.get()), cudaSuccess);
    EXPECT_EQ(Add(a.get(), 3, blocking), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_THAT(a.Read(), Each(7));
  }
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(StreamTest, QueriesLetTheDeviceGoOn) {
  const DeviceArray<int> a(std::vector<int>(kN, 0));
  cudaEvent_t events[2] = {};
  for (cudaEvent_t& event : events) ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(events[0], stream_), cudaSuccess);
  EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(events[1], stream_), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, events[0], events[1]), cudaErrorNotReady);
  int asked = 0;
  while (cudaEventQuery(events[1]) == cudaErrorNotReady) ++asked;
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, events[0], events[1]), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  for (cudaEvent_t event : events) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(StreamTest, AFullQueueRuns) {
  const DeviceArray<int> a(std::vector<int>(kN, 0));
  for (int i = 0; i < 1001; ++i) {
    EXPECT_EQ(cudaMemcpyAsync(a.get(), pinned_ + 1, sizeof(int), cudaMemcpyHostToDevice, stream_), cudaSuccess);
  }
  EXPECT_EQ(cudaMemcpyAsync(pinned_, a.get(), sizeof(int), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 0);
  pinned_[1] = 5;
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 1) << "the copies ran before";
}

TEST_F(StreamTest, UnknownHandles) {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, stream_), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventSynchronize(event), cudaErrorInvalidResourceHandle);
}

class GraphTest : public RuntimeTest {
 protected:
  ~GraphTest() override {
    for (cudaGraphExec_t executable : executables_) EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  }
  cudaGraphExec_t Instantiate(cudaGraph_t graph) {
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    executables_.push_back(executable);
    return executable;
  }
  void Begin() { ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess); }
  // What the capture comes to, after a call that it does not allow.
  void ExpectInvalidated() {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    EXPECT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess) << "the stream is usable again";
  }
  std::vector<cudaGraphExec_t> executables_;
};

TEST_F(GraphTest, RecordsAndReplays) {
  const DeviceArray<int> a(std::vector<int>(kN, 0));
  Begin();
  EXPECT_EQ(cudaMemcpyAsync(a.get(), pinned_, kN * sizeof(int), cudaMemcpyHostToDevice, stream_), cudaSuccess);
  int value = 100;
  EXPECT_EQ(Add(a.get(), value, stream_), cudaSuccess);
  value = 0;
  EXPECT_EQ(cudaMemsetAsync(a.get() + 1, 0, sizeof(int), stream_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  size_t nodes = 0;
  EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 3u);
  const cudaGraphExec_t executable = Instantiate(graph);
  EXPECT_THAT(a.Read(), Each(0)) << "only recorded";
  for (int round = 0; round < 3; ++round) {
    pinned_[7] = round;
    EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_THAT(a.Read(), ElementsAre(100, 0, 102, 103, 104, 105, 106, 100 + round));
  }
}

TEST_F(GraphTest, OverTwoStreams) {
  const DeviceArray<int> a(std::vector<int>(kN, 1));
  cudaStream_t other = nullptr;
  cudaEvent_t fork = nullptr;
  cudaEvent_t join = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
  for (const bool joins : {false, true}) {
    Begin();
    EXPECT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
    EXPECT_EQ(Add(a.get(), 1, other), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(join, other), cudaSuccess);
    if (joins) {
      EXPECT_EQ(cudaStreamWaitEvent(stream_, join, 0), cudaSuccess);
    }
    EXPECT_EQ(cuda::Launch(stream_, &cuda::DoubleKernel, 1, kN, 0, a.get()), cudaSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), joins ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    if (joins) {
      EXPECT_EQ(cudaGraphLaunch(Instantiate(graph), stream_), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  }
  EXPECT_THAT(a.Read(), Each(4));
  EXPECT_EQ(cudaEventQuery(join), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(GraphTest, CallsThatEndARecording) {
  const DeviceArray<int> a(std::vector<int>(kN, 1));
  void* memory = nullptr;
  size_t bytes = 0;
  Begin();
  EXPECT_EQ(cudaMemGetInfo(&bytes, &bytes), cudaSuccess) << "this one does not";
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(Add(a.get(), 1, stream_), cudaErrorStreamCaptureInvalidated);
  ExpectInvalidated();
  Begin();
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  Begin();
  EXPECT_EQ(cudaFree(a.get()), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  Begin();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  Begin();
  EXPECT_EQ(cudaMemcpy(a.get(), pinned_, 4, cudaMemcpyHostToDevice), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  Begin();
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  EXPECT_THAT(a.Read(), Each(1));
}

TEST_F(GraphTest, ModesOfOtherThreads) {
  void* memory = nullptr;
  const auto elsewhere = [&memory] {
    cudaError_t error = cudaSuccess;
    std::thread thread([&] { error = cudaMalloc(&memory, 4); });
    thread.join();
    return error;
  };
  Begin();
  EXPECT_EQ(elsewhere(), cudaSuccess) << "the capture is of this thread alone";
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(elsewhere(), cudaErrorStreamCaptureUnsupported);
  ExpectInvalidated();
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(GraphTest, MisusedCaptures) {
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed), cudaErrorStreamCaptureUnsupported);
  Begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaErrorIllegalState);
  // An event that was not recorded in it.
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, event, 0), cudaErrorStreamCaptureIsolation);
  ExpectInvalidated();
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

// Threads of the program take turns on the device.
TEST_F(StreamTest, ManyThreads) {
  const DeviceArray<int> a(std::vector<int>(kN, 0));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess);
        EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(a.Read(), Each(200));
}

using ErrorTest = RuntimeTest;

TEST_F(ErrorTest, LaunchesThatNoDeviceTakes) {
  const DeviceArray<int> a(std::vector<int>(kN, 1));
  EXPECT_EQ(cuda::Launch(stream_, &cuda::AddKernel, 1, 1025, 0, a.get(), 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch(stream_, &cuda::AddKernel, 1, 0, 0, a.get(), 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch(stream_, &cuda::AddKernel, 0, 1, 0, a.get(), 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch(stream_, &cuda::AddKernel, dim3(1, 65536), 1, 0, a.get(), 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess) << "not an error that stays";
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_THAT(a.Read(), Each(2));
}

TEST_F(ErrorTest, SharedMemory) {
  const DeviceArray<int> a(std::vector<int>(kN, 1));
  const auto function = reinterpret_cast<const void*>(&cuda::DynamicKernel);
  const auto launch = [&](size_t bytes) {
    return LaunchErased(stream_, function, 1, 1, bytes,
                        {.data = std::make_shared<int*>(a.get()), .bytes = sizeof(int*), .run = [](const void* data) {
                           cuda::DynamicKernel(*static_cast<int* const*>(data));
                         }});
  };
  EXPECT_EQ(launch(48 * 1024), cudaSuccess);
  EXPECT_EQ(launch(48 * 1024 + 1), cudaErrorInvalidValue) << "was not asked for";
  EXPECT_EQ(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024), cudaSuccess);
  EXPECT_EQ(launch(227 * 1024), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(a.Read()[0], 7);
  // Static arrays count too.
  EXPECT_EQ(cuda::Launch(stream_, &cuda::StaticAndDynamicKernel, 1, 1, 44 * 1024, a.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(cuda::Launch(stream_, &cuda::StaticAndDynamicKernel, 1, 1, 45 * 1024, a.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  EXPECT_THAT(lukv_emulator_last_report(), HasSubstr("more than a block may have"));
  lukv_emulator_clear_error();
}

TEST_F(ErrorTest, AKernelsFaultEndsTheContext) {
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  {
    const DeviceArray<int> a(std::vector<int>(kN, 1));
    EXPECT_EQ(cuda::Launch(stream_, &cuda::DivergeKernel, 1, 32, 0), cudaSuccess);
    EXPECT_EQ(Add(a.get(), 1, stream_), cudaSuccess) << "nobody knows yet";
    EXPECT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
    EXPECT_EQ(cudaEventSynchronize(event), cudaErrorLaunchFailure);
    EXPECT_EQ(Add(a.get(), 1, stream_), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    EXPECT_THAT(lukv_emulator_last_report(), HasSubstr("DivergeKernel"));
    lukv_emulator_clear_error();
    EXPECT_STREQ(lukv_emulator_last_report(), "");
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    EXPECT_THAT(a.Read(), Each(1)) << "what was queued is lost";
  }
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(ErrorTest, NamesAndTexts) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
}

TEST_F(RuntimeTest, TheDevice) {
  int n = 0;
  EXPECT_EQ(cudaGetDeviceCount(&n), cudaSuccess);
  EXPECT_EQ(n, 1);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaErrorInvalidDevice);
  EXPECT_STREQ(properties.name, "LUKV emulated device");
  EXPECT_EQ(properties.major, 9);
  EXPECT_EQ(properties.multiProcessorCount, 3);
  EXPECT_EQ(properties.sharedMemPerBlockOptin, 227u * 1024);
  int blocks = 0;
  const auto function = reinterpret_cast<const void*>(&cuda::DynamicKernel);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 256, 0), cudaSuccess);
  EXPECT_EQ(blocks, 8);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 128, 100 * 1024), cudaSuccess);
  EXPECT_EQ(blocks, 2);
}

}  // namespace
}  // namespace lukv::emulator
