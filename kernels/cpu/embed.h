// Embedding lookup of the CPU backend.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/ops.h"

namespace lukv::cpu {

// See Backend::PackEmbedding: keeps the view.
std::unique_ptr<EmbeddingWeight> PackEmbedding(const TensorView& table);

// See EmbedArgs. REQUIRES: args.table was made by PackEmbedding above.
void Embed(const EmbedArgs& args, OpContext& context);

}  // namespace lukv::cpu
