// Whether what the clients saw and what the server counted are the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/load/generator.h"
#include "tools/scrape/server_reading.h"

namespace lukv {

// One line of the books: the server's figure must lie within what the clients know.
struct BookLine {
  std::string name;
  double least = 0;
  double most = 0;
  double counted = 0;

  bool balances() const { return counted >= least && counted <= most; }
};

// Every request that was sent ended once. Of a request that its client ended (cancelled, killed, deadline) the clients
// do not know what the server made of it, nor whether it ever saw it: such requests widen the limits.
// REQUIRES: nobody else used the server between the two readings, and it was idle at both.
std::vector<BookLine> CheckBooks(const LoadRun& run, const ServerReading& before, const ServerReading& after);

// That every request ended once, which needs no server.
BookLine CheckEndings(const LoadRun& run);

}  // namespace lukv
