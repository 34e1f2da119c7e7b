// What the layers kept of a context, for a message.
#pragma once

#include <vector>

#include "engine/request.h"
#include "lukv/v1/inference.pb.h"

namespace lukv {

template <typename Message>
void AddKept(const std::vector<KeptTokens>& layers, Message& message) {
  for (const KeptTokens& layer : layers) {
    v1::KeptTokens& kept = *message.add_kept();
    kept.set_min(layer.min);
    kept.set_mean(layer.mean);
    kept.set_max(layer.max);
  }
}

}  // namespace lukv
