// A budget curve as a picture.
#pragma once

#include <string>

#include "engine/evict/budget_curve.h"

namespace lukv {

// SVG: one cell per layer (across) and kv head (down) with the part of the context that it keeps, at 80 % removed over
// all heads and, smaller, at some other ratios.
std::string HeatMap(const BudgetCurve& curve);

}  // namespace lukv
