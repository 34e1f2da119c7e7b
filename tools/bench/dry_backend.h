// A device that computes nothing and has no memory, but sees the same calls in the same order as any other: what the
// forward would ask of a device, and so what it costs, without having one.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace lukv {

// Activations and weights are bf16, as on a GPU. What is read back from it is zero.
std::unique_ptr<Backend> MakeDryBackend();

}  // namespace lukv
