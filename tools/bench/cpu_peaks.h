// What the CPU's cores can do at most, beyond what a backend's ops show.
#pragma once

#include "tools/bench/peaks.h"

namespace lukv {

// Products of 8-bit integers with the best instructions that lukv has for them (VNNI, else AVX2), from registers alone,
// on all threads at once; and the time of a parallel loop that does nothing.
void MeasureCpuPeaks(int threads, Peaks& peaks);

}  // namespace lukv
