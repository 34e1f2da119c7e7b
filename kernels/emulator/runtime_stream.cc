// The runtime API's streams, events and graphs.
#include <memory>
#include <thread>

#include "kernels/emulator/runtime.h"

using lukv::emulator::Call;
using lukv::emulator::Capture;
using lukv::emulator::Operation;
using lukv::emulator::Recording;
using lukv::emulator::Refuse;
using lukv::emulator::Release;
using lukv::emulator::Runtime;

namespace {

// For calls that wait for the stream, which a captured one cannot.
cudaError_t ForbidCaptured(Runtime& runtime, CUstream_st* stream) {
  if (stream->capture == nullptr) return cudaSuccess;
  runtime.Invalidate(*stream->capture);
  return cudaErrorStreamCaptureUnsupported;
}

template <typename Body>
cudaError_t CallOn(cudaStream_t stream, Body&& body) {
  return Call([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    return on == nullptr ? cudaErrorInvalidResourceHandle : body(runtime, on);
  });
}

template <typename Body>
cudaError_t CallAbout(cudaEvent_t event, Body&& body) {
  return Call(
      [&](Runtime& runtime) { return runtime.IsEvent(event) ? body(runtime) : cudaErrorInvalidResourceHandle; });
}

cudaError_t CreateStream(cudaStream_t* stream, unsigned flags) {
  return Call([&](Runtime& runtime) {
    *stream = runtime.CreateStream(flags != cudaStreamNonBlocking);
    return cudaSuccess;
  });
}

cudaError_t RecordCaptured(CUstream_st* stream, cudaEvent_t event) {
  if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
  event->recording = nullptr;
  event->capture = stream->capture;
  event->captured_stream = stream;
  event->captured_position = stream->captured;
  return cudaSuccess;
}

// The stream joins the capture that the event was recorded in; or the capture's origin now waits for the event's
// stream.
cudaError_t WaitCaptured(Runtime& runtime, CUstream_st* stream, cudaEvent_t event) {
  if (event->capture == nullptr) {
    runtime.Invalidate(*stream->capture);
    return cudaErrorStreamCaptureIsolation;
  }
  if (stream->capture == nullptr) {
    stream->capture = event->capture;
    stream->captured = 1;  // That it waits: to be joined also if nothing else follows.
    stream->joined = 0;
  }
  if (stream->capture != event->capture) return cudaErrorStreamCaptureMerge;
  event->captured_stream->joined = event->captured_position;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return CreateStream(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) { return CreateStream(stream, flags); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return Release([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (on->capture != nullptr) runtime.EndCapture(*on->capture);
    runtime.DestroyStream(on);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return CallOn(stream, [](Runtime& runtime, CUstream_st* on) {
    const cudaError_t error = ForbidCaptured(runtime, on);
    return error == cudaSuccess ? runtime.Drain(on) : error;
  });
}

// Each question lets the device do a little.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return CallOn(stream, [](Runtime& runtime, CUstream_st* on) {
    if (const cudaError_t error = ForbidCaptured(runtime, on); error != cudaSuccess) return error;
    if (on->executed == on->issued) return cudaSuccess;
    const cudaError_t error = runtime.Step();
    return error == cudaSuccess ? cudaErrorNotReady : error;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  return CallAbout(event, [&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return cudaErrorInvalidResourceHandle;
    if (on->capture != nullptr || event->capture != nullptr) return WaitCaptured(runtime, on, event);
    // An event that was never recorded is nothing to wait for.
    if (event->recording != nullptr) runtime.IssueWait(on, event->recording);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return Call([](Runtime& runtime) {
    const cudaError_t error = runtime.ForbidWhileCapturing();
    return error == cudaSuccess ? runtime.DrainAll() : error;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return Call([&](Runtime& runtime) {
    *event = new CUevent_st{.timing = (flags & cudaEventDisableTiming) == 0};
    runtime.AddEvent(*event);
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return Release([&](Runtime& runtime) {
    if (!runtime.IsEvent(event)) return cudaErrorInvalidResourceHandle;
    runtime.RemoveEvent(event);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return CallAbout(event, [&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return cudaErrorInvalidResourceHandle;
    if (on->capture != nullptr) return RecordCaptured(on, event);
    event->capture = nullptr;
    event->recording = std::make_shared<Recording>();
    runtime.IssueRecording(on, event->recording);
    return runtime.context_error();
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return CallAbout(event, [&](Runtime& runtime) {
    if (event->capture != nullptr) {
      runtime.Invalidate(*event->capture);
      return cudaErrorCapturedEvent;
    }
    return event->recording == nullptr ? cudaSuccess : runtime.Drain(*event->recording);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return CallAbout(event, [&](Runtime& runtime) {
    if (event->capture != nullptr) {
      runtime.Invalidate(*event->capture);
      return cudaErrorCapturedEvent;
    }
    if (event->recording == nullptr || event->recording->done) return cudaSuccess;
    const cudaError_t error = runtime.Step();
    return error == cudaSuccess ? cudaErrorNotReady : error;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return Call([&](Runtime& runtime) {
    for (cudaEvent_t event : {start, end}) {
      if (!runtime.IsEvent(event) || !event->timing || event->recording == nullptr) {
        return cudaErrorInvalidResourceHandle;
      }
    }
    if (!start->recording->done || !end->recording->done) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(end->recording->time - start->recording->time).count();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return CallOn(stream, [&](Runtime& runtime, CUstream_st* on) {
    if (on == runtime.Find(nullptr)) return cudaErrorStreamCaptureUnsupported;
    if (on->capture != nullptr) return cudaErrorIllegalState;
    runtime.StartCapture(on, mode);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return CallOn(stream, [&](Runtime& runtime, CUstream_st* on) {
    *graph = nullptr;
    const std::shared_ptr<Capture> capture = on->capture;
    if (capture == nullptr) return cudaErrorIllegalState;
    if (capture->origin != on) return cudaErrorStreamCaptureUnmatched;
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
      return cudaErrorStreamCaptureWrongThread;
    }
    const bool all_joined = runtime.EndCapture(*capture);
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (!all_joined) return cudaErrorStreamCaptureUnjoined;
    runtime.CountObject(1);
    *graph = new CUgraph_st{.operations = std::move(capture->operations)};
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return CallOn(stream, [&](Runtime&, CUstream_st* on) {
    *status = on->capture == nullptr ? cudaStreamCaptureStatusNone
              : on->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long /*flags*/) {
  return Call([&](Runtime& runtime) {
    runtime.CountObject(1);
    *executable = new CUgraphExec_st{.operations = std::make_shared<std::vector<Operation>>(graph->operations)};
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return CallOn(stream, [&](Runtime& runtime, CUstream_st* on) {
    return runtime.Issue(on, [operations = executable->operations] {
      for (const Operation& operation : *operations) {
        if (const cudaError_t error = operation(); error != cudaSuccess) return error;
      }
      return cudaSuccess;
    });
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return Call([&](Runtime&) {
    if (nodes != nullptr) return Refuse("cudaGraphGetNodes", "only their number is emulated", cudaErrorNotSupported);
    *count = graph->operations.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return Release([&](Runtime& runtime) {
    runtime.CountObject(-1);
    delete graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return Release([&](Runtime& runtime) {
    runtime.CountObject(-1);
    delete executable;
    return cudaSuccess;
  });
}
