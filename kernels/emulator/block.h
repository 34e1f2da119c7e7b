// Runs the blocks of a launch, one after the other: every thread is a fiber that runs until it waits for others. Which
// one goes on then is drawn by a seeded generator: lanes of the same warp for a while, then another warp, so that warps
// run far ahead of each other. The order of the blocks is drawn too.
//
// One thread of the operating system at a time may be in here (Runtime's lock).
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/emulator/access.h"
#include "kernels/emulator/fiber.h"
#include "kernels/emulator/launch.h"
#include "kernels/emulator/site.h"

namespace lukv::emulator {

inline constexpr unsigned kWarpLanes = 32;
inline constexpr unsigned kMaxThreads = 1024;

enum class WarpOperation : uint8_t { kSync, kShuffle, kBallot, kMultiplyAdd, kLoadMatrices, kLoadMatricesTransposed };

// A cp.async on its way.
struct AsyncCopy {
  void* shared;
  const void* global;
  bool valid;
  unsigned group;
};

// What every switch needs comes first, in one cache line.
struct alignas(64) Thread {
  RunningStack range;
  uint3 index = {};
  unsigned number = 0;  // In the block.
  FiberState fiber;
  std::unique_ptr<FiberStack> stack;
  // Where it waits: at a barrier or for its warp.
  Site site;
  const void* return_address = nullptr;
  std::vector<AsyncCopy> copies;
  unsigned groups = 0;  // Committed so far.
  bool idle = false;    // Suspended between blocks: may run the next one.

  unsigned lane() const { return number % kWarpLanes; }
  unsigned warp() const { return number / kWarpLanes; }
};

// Lanes that asked for the same and wait for the others that their mask names.
struct WarpGroup {
  WarpOperation operation;
  unsigned mask;
  Site site;
  unsigned arrived;
};

struct WarpState {
  unsigned ready = 0;   // Lanes that can go on.
  unsigned barred = 0;  // Lanes at the block's barrier.
  unsigned live = 0;    // Lanes that have not exited.
  unsigned n_groups = 0;
  WarpGroup groups[kWarpLanes];
  // Of each lane's request: a value, in and out; kShuffle: the lane to read; kMultiplyAdd: d, a and b; kLoadMatrices: r
  // and the row.
  uint64_t values[kWarpLanes];
  uint8_t sources[kWarpLanes];
  struct {
    void* out;
    const void* in[2];
  } pointers[kWarpLanes];
};

struct Grid {
  const void* function = nullptr;
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
  size_t shared_limit = 0;  // Of static and dynamic shared memory.
  LaunchBody body;
};

// Runs all blocks. Returns false if the kernel did something wrong; then a report was made.
bool RunGrid(const Grid& grid);

// What the threads of the running block may ask. Only for code that runs on a fiber.
Thread& CurrentThread();
const Grid& CurrentGrid();
WarpState& CurrentWarp();
// Waits until every lane of `mask` has asked for the same; then the requests of all are answered.
void AwaitWarp(WarpOperation operation, unsigned mask, const Site& site, const void* return_address);
// Lets other threads run first, now and then.
void MaybeYield();
// Ends the launch with a report about the running thread, whose stack is left as it is: nobody's destructors run.
// `return_address` is in the kernel.
[[noreturn]] void FailThread(std::string what, std::optional<Site> site, const void* return_address,
                             bool memory = false);

// Whether the address is on the stack of any thread that has ever run.
bool IsOnStackOfThread(uintptr_t address);

void SeedScheduler(unsigned seed);
uint64_t LaunchNumber();

}  // namespace lukv::emulator
