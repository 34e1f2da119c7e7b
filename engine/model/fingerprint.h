// A name for a model that says whether a budget curve was made for it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/model/weight_source.h"

namespace lukv {

// "<architecture>-<layers>x<kv heads>x<head_dim>-<16 hex digits>"; the digits are a hash (FNV-1a) of the model's shape
// and of the norms in front of each layer's attention and at the end. Files keep norms as they are, whatever they
// quantise the rest to, so that all files of one model, and the Hugging Face folder they were made from, have the same
// fingerprint: a curve for one of them is a curve for all. Models of the same shape with other training differ in it.
//
// Which architecture a Mistral model calls itself depends on the format, so that it counts as the llama it is.
// INVALID_ARGUMENT, NOT_FOUND: a norm cannot be read.
absl::StatusOr<std::string> ModelFingerprint(const WeightSource& source);

}  // namespace lukv
