// Counts what operator new hands out, to show that a reader does not believe a hostile file's counts. Linking
// allocation_probe.cc into a test replaces the global operator new.
#pragma once

#include <cstddef>

namespace lukv {

// Bytes asked for since the construction, freed or not.
class AllocationProbe {
 public:
  AllocationProbe();
  size_t bytes() const;

 private:
  size_t start_;
};

}  // namespace lukv
