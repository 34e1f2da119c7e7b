// The number types of the KV cache. A position and a cache length are never interchangeable: after eviction a head
// holds fewer entries than the text has tokens, and how many differs per (layer, kv head).
#pragma once

#include <cstdint>

namespace lukv {

// Place of a token in the text, from 0; drives RoPE.
enum class Position : int32_t {};

// Number of entries that one kv head of one layer holds.
enum class CacheLength : int32_t {};

// Index of a page in the page pool.
using PageId = uint32_t;

constexpr int32_t Value(Position p) { return static_cast<int32_t>(p); }
constexpr int32_t Value(CacheLength n) { return static_cast<int32_t>(n); }

}  // namespace lukv
