// A picture of a run: how long requests took, and what went on over time.
#pragma once

#include <span>
#include <string>

#include "tools/load/generator.h"
#include "tools/load/scraper.h"

namespace lukv {

// SVG.
std::string LoadSvg(const LoadRun& run, std::span<const TimedReading> readings);

}  // namespace lukv
