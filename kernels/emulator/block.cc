#include "kernels/emulator/block.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/emulator/access.h"
#include "kernels/emulator/mma.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/shared_memory.h"
#include "kernels/emulator/warp.h"

// What kernels read as threadIdx and so on (device.h).
uint3 lukv_thread_index __asm__("lukv_emulator_thread_index");
uint3 lukv_block_index __asm__("lukv_emulator_block_index");
uint3 lukv_block_size __asm__("lukv_emulator_block_size");
uint3 lukv_grid_size __asm__("lukv_emulator_grid_size");

namespace lukv::emulator {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

// The running launch.
struct {
  const Grid* grid = nullptr;
  uint64_t number = 0;
  bool failed = false;
  FiberState host;
  Thread threads[kMaxThreads];  // Kept from launch to launch.
  unsigned n_threads = 0;
  WarpState warps[kMaxThreads / kWarpLanes];
  unsigned ready_warps = 0;
  unsigned live = 0;
  unsigned barred = 0;
  Thread* barrier = nullptr;  // The first thread that waits at the barrier.
  Thread* current = nullptr;
  uint64_t random = 1;
} state;

unsigned Random() {
  state.random = state.random * 6364136223846793005u + 1442695040888963407u;
  return static_cast<unsigned>(state.random >> 33);
}

// A set bit of `bits`, which is not 0: the first one from bit `start` on.
unsigned PickBit(unsigned bits, unsigned start) {
  return (static_cast<unsigned>(std::countr_zero(std::rotr(bits, static_cast<int>(start)))) + start) % 32;
}

WarpState& WarpOf(const Thread& thread) { return state.warps[thread.warp()]; }
Thread& ThreadAt(unsigned warp, unsigned lane) { return state.threads[warp * kWarpLanes + lane]; }

void MakeReady(unsigned warp, unsigned lanes) {
  state.warps[warp].ready |= lanes;
  state.ready_warps |= 1u << warp;
}

// From here on the thread counts as the one that runs.
void SetCurrent(Thread& thread) {
  state.current = &thread;
  lukv_thread_index = thread.index;
  current_stack = thread.range;
  SetSharedThread(thread.number);
}

void SwitchTo(Thread& next) {
  Thread& self = *state.current;
  if (&next == &self) return;
  SetCurrent(next);
  SwitchFiber(self.fiber, next.fiber);
}

void SwitchToHost() { SwitchFiber(state.current->fiber, state.host); }

[[noreturn]] void ReportDeadlock();

// Goes on with a thread that can run. The caller is not among them unless it was made ready.
void RunOthers() {
  if (state.ready_warps == 0) ReportDeadlock();
  const unsigned random = Random();
  unsigned warp = state.current->warp();
  if (state.warps[warp].ready == 0 || (random & 0x1f) == 0) warp = PickBit(state.ready_warps, random >> 5 & 31);
  WarpState& chosen = state.warps[warp];
  const unsigned lane = PickBit(chosen.ready, random >> 10 & 31);
  chosen.ready &= ~(1u << lane);
  if (chosen.ready == 0) state.ready_warps &= ~(1u << warp);
  SwitchTo(ThreadAt(warp, lane));
}

// The same line in another copy of the code: another instantiation, an inlined function.
bool SameLine(const Site& a, const Site& b) {
  return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

bool SameSite(const Site& a, const Site& b) { return std::memcmp(&a, &b, sizeof(Site)) == 0 || SameLine(a, b); }

Frame FrameOf(const Site& site) { return {.file = ShortPath(site.file_name()), .line = static_cast<int>(site.line())}; }

std::string Describe(const Site& site) {
  const Frame frame = FrameOf(site);
  return frame.file + ":" + std::to_string(frame.line);
}

const char* NameOf(WarpOperation operation) {
  switch (operation) {
    case WarpOperation::kSync:
      return "__syncwarp";
    case WarpOperation::kShuffle:
      return "shuffle";
    case WarpOperation::kBallot:
      return "vote";
    case WarpOperation::kMultiplyAdd:
      return "mma";
    case WarpOperation::kLoadMatrices:
      return "ldmatrix";
    case WarpOperation::kLoadMatricesTransposed:
      return "ldmatrix.trans";
  }
  return "";
}

[[noreturn]] void Abandon() {
  state.failed = true;
  state.current->idle = false;  // Also if it had ended: its stack is left here.
  SwitchToHost();
  std::abort();  // Nobody switches back.
}

// A report about a thread that waits: what is known is where it called.
void ReportWaiting(const Thread& thread, const std::string& what) {
  std::vector<Frame> frames = FramesOfCall(thread.return_address);
  if (frames.empty()) frames = {FrameOf(thread.site)};
  MakeReport({.what = what,
              .kernel = KernelName(state.grid->function),
              .block = lukv_block_index,
              .thread = thread.index,
              .frames = std::move(frames)});
}

// Why a lane that the group's mask names has not come.
std::string WhyMissing(const WarpState& warp, unsigned first_thread, const WarpGroup& group, unsigned lane) {
  if ((warp.live >> lane & 1) == 0) return "has exited or does not exist";
  const Site& site = state.threads[first_thread + lane].site;
  if ((warp.barred >> lane & 1) != 0) return "waits at the barrier in " + Describe(site);
  for (unsigned i = 0; i < warp.n_groups; ++i) {
    const WarpGroup& other = warp.groups[i];
    if ((other.arrived >> lane & 1) == 0) continue;
    if (other.operation == group.operation && SameSite(other.site, group.site)) return "gave another mask";
    return std::string("waits in a ") + NameOf(other.operation) + " in " + Describe(site);
  }
  return "does not come";
}

// Lanes wait for others that will not come: says which and why.
void ReportDeadlock() {
  for (unsigned first = 0; first < state.n_threads; first += kWarpLanes) {
    const WarpState& warp = state.warps[first / kWarpLanes];
    if (warp.n_groups == 0) continue;
    const WarpGroup& group = warp.groups[0];
    const unsigned missing = static_cast<unsigned>(std::countr_zero(group.mask & ~group.arrived));
    const unsigned waiting = static_cast<unsigned>(std::countr_zero(group.arrived));
    ReportWaiting(state.threads[first + waiting], std::string(NameOf(group.operation)) + " waits for ever: lane " +
                                                      std::to_string(missing) + " of its mask " +
                                                      WhyMissing(warp, first, group, missing));
    Abandon();
  }
  std::abort();  // A barrier alone cannot be stuck: every thread that lives is there.
}

// All that live have arrived.
void OpenBarrier() {
  state.barred = 0;
  state.barrier = nullptr;
  OrderBlock();
  for (unsigned warp = 0; warp * kWarpLanes < state.n_threads; ++warp) {
    WarpState& w = state.warps[warp];
    const unsigned lanes = w.barred;
    w.barred = 0;
    if (lanes != 0) MakeReady(warp, lanes);
  }
}

// The body of a fiber: one thread of block after block.
void RunThreads() {
  while (true) {
    running_stack = current_stack;
    state.grid->body.run(state.grid->body.data.get());
    running_stack = {};
    Thread& self = *state.current;
    self.idle = true;
    WarpOf(self).live &= ~(1u << self.lane());
    --state.live;
    if (state.live == 0) {
      SwitchToHost();
    } else {
      if (state.barred == state.live) OpenBarrier();
      RunOthers();
    }
  }
}

Thread& PreparedThread(unsigned number, dim3 block) {
  Thread& thread = state.threads[number];
  if (thread.stack == nullptr) {
    thread.number = number;
    thread.stack = std::make_unique<FiberStack>(number);
    thread.range = {.low = reinterpret_cast<uintptr_t>(thread.stack->low()), .bytes = thread.stack->bytes()};
  }
  if (!thread.idle) PrepareFiber(thread.fiber, *thread.stack, &RunThreads);
  thread.idle = false;
  thread.index = {number % block.x, number / block.x % block.y, number / (block.x * block.y)};
  thread.groups = 0;
  return thread;
}

// Copies that nobody waited for never land.
void DropCopies(Thread& thread) {
  for (const AsyncCopy& copy : thread.copies) EndCopy(reinterpret_cast<uintptr_t>(copy.shared) - SharedBase());
  thread.copies.clear();
}

void RunBlock(const Grid& grid) {
  const unsigned n = grid.block.x * grid.block.y * grid.block.z;
  state.n_threads = n;
  state.live = n;
  state.barred = 0;
  state.barrier = nullptr;
  state.ready_warps = 0;
  for (unsigned number = 0; number < n; ++number) PreparedThread(number, grid.block);
  for (unsigned warp = 0; warp * kWarpLanes < n; ++warp) {
    const unsigned lanes = n - warp * kWarpLanes;
    state.warps[warp].ready = 0;
    state.warps[warp].barred = 0;
    state.warps[warp].n_groups = 0;
    state.warps[warp].live = lanes >= kWarpLanes ? kAllLanes : (1u << lanes) - 1;
    MakeReady(warp, state.warps[warp].live);
  }
  StartSharedMemory(grid.dynamic_shared_bytes);
  // The host takes the place of a thread that has just made way.
  const unsigned warp = PickBit(state.ready_warps, Random() & 31);
  const unsigned lane = PickBit(state.warps[warp].ready, Random() & 31);
  state.warps[warp].ready &= ~(1u << lane);
  if (state.warps[warp].ready == 0) state.ready_warps &= ~(1u << warp);
  SetCurrent(ThreadAt(warp, lane));
  SwitchFiber(state.host, state.current->fiber);
  state.current = nullptr;
  for (unsigned number = 0; number < n; ++number) DropCopies(state.threads[number]);
}

// Answers the requests of the lanes of a group that is complete.
void Answer(unsigned warp_number, const WarpGroup& group) {
  WarpState& warp = state.warps[warp_number];
  switch (group.operation) {
    case WarpOperation::kSync:
      OrderWarp(warp_number, group.mask, warp.live);
      break;
    case WarpOperation::kShuffle: {
      uint64_t values[kWarpLanes];
      std::memcpy(values, warp.values, sizeof(values));
      for (unsigned rest = group.mask; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        warp.values[lane] = values[warp.sources[lane]];
      }
      break;
    }
    case WarpOperation::kBallot: {
      uint64_t votes = 0;
      for (unsigned rest = group.mask; rest != 0; rest &= rest - 1) {
        votes |= warp.values[std::countr_zero(rest)] << std::countr_zero(rest);
      }
      for (unsigned rest = group.mask; rest != 0; rest &= rest - 1) warp.values[std::countr_zero(rest)] = votes;
      break;
    }
    case WarpOperation::kMultiplyAdd:
      MultiplyAddWarp(warp);
      break;
    case WarpOperation::kLoadMatrices:
      LoadMatricesWarp(warp, /*transposed=*/false);
      break;
    case WarpOperation::kLoadMatricesTransposed:
      LoadMatricesWarp(warp, /*transposed=*/true);
      break;
  }
}

}  // namespace

Thread& CurrentThread() { return *state.current; }
const Grid& CurrentGrid() { return *state.grid; }
uint64_t LaunchNumber() { return state.number; }
bool IsOnStackOfThread(uintptr_t address) {
  for (const Thread& thread : state.threads) {
    if (address - thread.range.low < thread.range.bytes) return true;
  }
  return false;
}
void SeedScheduler(unsigned seed) { state.random = seed * 2654435761u + 1; }

WarpState& CurrentWarp() { return WarpOf(*state.current); }

void AwaitWarp(WarpOperation operation, unsigned mask, const Site& site, const void* return_address) {
  Thread& self = *state.current;
  const unsigned bit = 1u << self.lane();
  self.site = site;
  self.return_address = return_address;
  if ((mask & bit) == 0) {
    FailThread(std::string(NameOf(operation)) + ": the calling lane is not in its mask", site, return_address);
  }
  WarpState& warp = WarpOf(self);
  unsigned i = 0;
  for (; i < warp.n_groups; ++i) {
    const WarpGroup& group = warp.groups[i];
    if (group.mask == mask && group.operation == operation && SameSite(group.site, site)) break;
  }
  WarpGroup& group = warp.groups[i];
  if (i == warp.n_groups) {
    group = {.operation = operation, .mask = mask, .site = site, .arrived = 0};
    ++warp.n_groups;
  }
  group.arrived |= bit;
  if (group.arrived == mask) {
    Answer(self.warp(), group);
    group = warp.groups[--warp.n_groups];
    MakeReady(self.warp(), mask);
  }
  RunOthers();
}

void MaybeYield() {
  if ((Random() & 3) != 0) return;
  MakeReady(state.current->warp(), 1u << state.current->lane());
  RunOthers();
}

void FailThread(std::string what, std::optional<Site> site, const void* return_address, bool memory) {
  {
    std::vector<Frame> frames = FramesOfKernel();
    if (frames.empty()) frames = FramesOfCall(return_address);
    if (frames.empty() && site.has_value()) frames = {FrameOf(*site)};
    MakeReport({.what = std::exchange(what, {}),
                .kernel = KernelName(state.grid->function),
                .block = lukv_block_index,
                .thread = state.current->index,
                .frames = std::move(frames),
                .memory = memory});
  }
  Abandon();
}

void SyncThreads(Site site) {
  const OutsideKernel outside;
  Thread& self = *state.current;
  self.site = site;
  self.return_address = __builtin_return_address(0);
  if (state.barrier == nullptr) {
    state.barrier = &self;
  } else if (!SameSite(state.barrier->site, site)) {
    FailThread("the block's threads wait at different barriers: others in " + Describe(state.barrier->site), site,
               self.return_address);
  }
  WarpOf(self).barred |= 1u << self.lane();
  ++state.barred;
  if (state.barred == state.live) OpenBarrier();
  RunOthers();
}

void SyncWarp(unsigned mask, Site site) {
  const OutsideKernel outside;
  AwaitWarp(WarpOperation::kSync, mask, site, __builtin_return_address(0));
}

unsigned Ballot(unsigned mask, bool predicate, Site site) {
  const OutsideKernel outside;
  uint64_t& value = CurrentWarp().values[state.current->lane()];
  value = predicate ? 1 : 0;
  AwaitWarp(WarpOperation::kBallot, mask, site, __builtin_return_address(0));
  return static_cast<unsigned>(value);
}

// PTX ISA, "shfl.sync": the lane that is read, and the caller's own where that falls outside its group.
uint64_t Shuffle(ShuffleKind kind, unsigned mask, uint64_t bits, int argument, int width, Site site) {
  const OutsideKernel outside;
  const int lane = static_cast<int>(state.current->lane());
  const int first = lane & ~(width - 1);
  const int last = first + width - 1;
  int source = lane;
  switch (kind) {
    case ShuffleKind::kIndex:
      source = first | (argument & (width - 1));
      break;
    case ShuffleKind::kUp:
      source = lane - argument < first ? lane : lane - argument;
      break;
    case ShuffleKind::kDown:
      source = lane + argument > last ? lane : lane + argument;
      break;
    case ShuffleKind::kXor:
      source = (lane ^ argument) > last ? lane : lane ^ argument;
      break;
  }
  if ((mask >> source & 1) == 0) {
    FailThread("shuffle reads lane " + std::to_string(source) + ", which is not in its mask", site,
               __builtin_return_address(0));
  }
  WarpState& warp = CurrentWarp();
  warp.values[lane] = bits;
  warp.sources[lane] = static_cast<uint8_t>(source);
  AwaitWarp(WarpOperation::kShuffle, mask, site, __builtin_return_address(0));
  return warp.values[lane];
}

bool RunGrid(const Grid& grid) {
  state.grid = &grid;
  ++state.number;
  state.failed = false;
  lukv_block_size = {grid.block.x, grid.block.y, grid.block.z};
  lukv_grid_size = {grid.grid.x, grid.grid.y, grid.grid.z};
  PrepareSharedMemory(grid.shared_limit);
  // Each block once, in an order that no kernel can count on.
  const uint64_t n_blocks = static_cast<uint64_t>(grid.grid.x) * grid.grid.y * grid.grid.z;
  uint64_t step = Random() % n_blocks + 1;
  while (std::gcd(step, n_blocks) != 1) ++step;
  uint64_t block = Random() % n_blocks;
  for (uint64_t i = 0; i < n_blocks && !state.failed; ++i) {
    lukv_block_index = {static_cast<unsigned>(block % grid.grid.x),
                        static_cast<unsigned>(block / grid.grid.x % grid.grid.y),
                        static_cast<unsigned>(block / grid.grid.x / grid.grid.y)};
    RunBlock(grid);
    block = (block + step) % n_blocks;
  }
  state.grid = nullptr;
  return !state.failed;
}

}  // namespace lukv::emulator
