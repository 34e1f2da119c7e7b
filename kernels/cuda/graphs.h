// Recorded steps: what was issued once is played back as one graph, without the host's work for each kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/cuda/op_context.h"

namespace lukv::cuda {

class Graphs {
 public:
  Graphs() = default;
  ~Graphs() { Clear(); }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // See Backend::Replay. The first time of a key the ops are issued as they come, so that all that they allocate and
  // look up is there; the second time they are recorded.
  absl::Status Run(uint64_t key, absl::FunctionRef<absl::Status()> ops, const OpContext& context);
  bool recording() const { return recording_; }
  void Clear();

 private:
  // Graphs hold addresses of the workspace: they go when it moves.
  void DropOld(const Workspace& workspace);
  absl::Status Record(absl::FunctionRef<absl::Status()> ops, cudaStream_t stream, cudaGraphExec_t* graph);

  std::map<uint64_t, cudaGraphExec_t> graphs_;  // Null: issued once, not recorded yet.
  int64_t workspace_generation_ = 0;
  bool recording_ = false;
};

}  // namespace lukv::cuda
