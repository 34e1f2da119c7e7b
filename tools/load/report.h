// A run's figures for people and for programs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/load/books.h"
#include "tools/load/generator.h"
#include "tools/load/options.h"
#include "tools/load/scraper.h"
#include "tools/load/summary.h"

namespace lukv {

// Lines of what should not have happened; empty if nothing did.
std::vector<std::string> Findings(const LoadSummary& summary, std::span<const BookLine> books);

std::string LoadText(const LoadOptions& options, const LoadSummary& summary, std::span<const BookLine> books);

// Times in seconds. "requests" has a row for each, in the order in which they were sent.
std::string LoadJson(const LoadOptions& options, const LoadSummary& summary, std::span<const BookLine> books,
                     const LoadRun& run, std::span<const TimedReading> readings);

}  // namespace lukv
