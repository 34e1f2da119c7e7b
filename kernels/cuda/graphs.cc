#include "kernels/cuda/graphs.h"

#include "base/status_macros.h"
#include "kernels/cuda/status.h"

namespace lukv::cuda {

void Graphs::Clear() {
  for (const auto& [key, graph] : graphs_) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  graphs_.clear();
}

void Graphs::DropOld(const Workspace& workspace) {
  if (workspace.generation() == workspace_generation_) return;
  Clear();
  workspace_generation_ = workspace.generation();
}

absl::Status Graphs::Record(absl::FunctionRef<absl::Status()> ops, cudaStream_t stream, cudaGraphExec_t* graph) {
  LUKV_RETURN_IF_ERROR(ToStatus(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step"));
  recording_ = true;
  const absl::Status issued = ops();
  recording_ = false;
  // Also after an error: the stream would stay in the recording otherwise.
  cudaGraph_t recorded = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &recorded);
  absl::Status status = issued.ok() ? ToStatus(ended, "recording a step") : issued;
  if (!issued.ok()) cudaGetLastError();
  if (status.ok()) status = ToStatus(cudaGraphInstantiate(graph, recorded, 0), "making a graph of a step");
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  return status;
}

absl::Status Graphs::Run(uint64_t key, absl::FunctionRef<absl::Status()> ops, const OpContext& context) {
  DropOld(*context.workspace);
  const auto [entry, is_new] = graphs_.try_emplace(key, nullptr);
  if (is_new) {
    absl::Status status = ops();
    if (!status.ok()) graphs_.erase(key);
    return status;
  }
  if (entry->second == nullptr) {
    absl::Status status = Record(ops, context.stream, &entry->second);
    if (!status.ok()) {
      graphs_.erase(key);
      return status;
    }
  }
  return ToStatus(cudaGraphLaunch(entry->second, context.stream), "a recorded step");
}

}  // namespace lukv::cuda
