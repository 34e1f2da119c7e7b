#include "kernels/emulator/shared_memory.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/emulator/access.h"
#include "kernels/emulator/block.h"
#include "kernels/emulator/device.h"
#include "kernels/emulator/report.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace lukv::emulator {

SharedMemory shared_memory;
Stamps stamps;
Clock shared_clock;
int32_t warp_floors[32] = {};

namespace {

constexpr int kPoison = 0xff;
constexpr size_t kGap = 64;  // Between arrays.
constexpr int32_t kLastTime = (Stamps::kPending >> Stamps::kTimeShift) - 1;
constexpr unsigned kMaxWarps = kMaxThreads / kWarpLanes;

// What each lane of a warp knows of the others: accesses of lane b before times[a][b] come before what a does now.
struct LaneTimes {
  int32_t times[kWarpLanes][kWarpLanes];
};

struct Array {
  size_t offset;
  size_t bytes;
};

struct {
  std::vector<Array> static_arrays;
  size_t static_bytes = 0;  // Without gaps.
  size_t dynamic_bytes = 0;
  size_t limit = 0;  // For both kinds together.
  int32_t now = 0;
  LaneTimes* lane_times[kMaxWarps] = {};  // Null until a part of a warp met.
  bool lane_times_used[kMaxWarps] = {};
} state;

int32_t TimeOf(int32_t stamp) { return (stamp & ~Stamps::kPending) >> Stamps::kTimeShift; }
int32_t StampAt(int32_t time) { return time << Stamps::kTimeShift; }

void SetNow(int32_t now) {
  state.now = now;
  shared_clock.stamp = StampAt(now) | shared_clock.self;
}

// Times have run out: only whether a byte was written in this block stays known.
void Renumber() {
  for (size_t i = 0; i < kSharedSpan; ++i) {
    const int32_t writer = stamps.writer[i];
    if ((writer & Stamps::kPending) == 0) stamps.writer[i] = writer >= shared_clock.start ? StampAt(1) : 0;
    stamps.reader[i] = 0;
    stamps.other_reader[i] = 0;
  }
  shared_clock.start = StampAt(1);
  shared_clock.floor = StampAt(2);
  std::fill(std::begin(warp_floors), std::end(warp_floors), 0);
  shared_clock.warp_floor = 0;
  std::fill(std::begin(state.lane_times_used), std::end(state.lane_times_used), false);
  SetNow(2);
}

void Tick() {
  if (state.now + 1 >= kLastTime) Renumber();
  SetNow(state.now + 1);
}

// What lane `lane` of the warp knows of lane `other`.
int32_t KnownTime(unsigned warp, unsigned lane, unsigned other) {
  const int32_t all = TimeOf(warp_floors[warp]);
  return state.lane_times_used[warp] ? std::max(all, state.lane_times[warp]->times[lane][other]) : all;
}

// Whether the running thread's next access comes after that of the stamp.
bool Ordered(int32_t stamp, bool atomic) {
  if ((stamp & Stamps::kPending) != 0) return false;
  if (stamp < shared_clock.floor) return true;
  const unsigned thread = static_cast<unsigned>(stamp & Stamps::kThread);
  const unsigned self = static_cast<unsigned>(shared_clock.self);
  if (thread == self || (atomic && (stamp & Stamps::kAtomic) != 0)) return true;
  return thread / kWarpLanes == self / kWarpLanes &&
         TimeOf(stamp) < KnownTime(self / kWarpLanes, self % kWarpLanes, thread % kWarpLanes);
}

// Makes bytes of the span usable.
void Place(const Array& array) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(shared_memory.bytes + array.offset, array.bytes);
#endif
  std::memset(shared_memory.bytes + array.offset, kPoison, array.bytes);
  for (size_t at = 0; at < array.bytes; at += kGranule) {
    shared_memory.valid[(array.offset + at) / kGranule] = static_cast<uint8_t>(std::min(kGranule, array.bytes - at));
  }
}

std::string Race(const char* verb, int32_t stamp, const char* other_verb, const void* other_site) {
  if ((stamp & Stamps::kPending) != 0) {
    return std::string(verb) + " shared memory that a cp.async of thread " + std::to_string(stamp & Stamps::kThread) +
           " may still be writing: AsyncWait is missing";
  }
  return std::string("race on shared memory: ") + verb + " what thread " + std::to_string(stamp & Stamps::kThread) +
         " " + other_verb + SiteOf(other_site) + ", with nothing between them that orders the two";
}

std::string FaultOfByte(Access access, size_t at) {
  const bool atomic = access == Access::kAtomic;
  const char* const verb = atomic ? "updates" : access == Access::kRead ? "reads" : "writes";
  const int32_t writer = stamps.writer[at];
  if (!Ordered(writer, atomic)) return Race(verb, writer, "wrote", stamps.write_site[at / 4]);
  if (access != Access::kWrite && writer < shared_clock.start) {
    return std::string(verb) + " uninitialised shared memory";
  }
  if (access == Access::kRead) return "";
  for (const int32_t reader : {stamps.reader[at], stamps.other_reader[at]}) {
    // Where a byte was read is known of its last reader only.
    const void* const site = reader == stamps.reader[at] ? stamps.read_site[at / 4] : nullptr;
    if (!Ordered(reader, false)) return Race(verb, reader, "read", site);
  }
  return "";
}

}  // namespace

std::string FaultOf(Access access, size_t offset, size_t bytes, const void* site) {
  for (size_t at = offset; at < offset + bytes; ++at) {
    std::string fault = FaultOfByte(access, at);
    if (!fault.empty()) return fault;
  }
  for (size_t at = offset; at < offset + bytes; ++at) {
    if (access == Access::kRead) {
      NoteReaders<int32_t>(at, shared_clock);
      stamps.read_site[at / 4] = site;
    } else {
      stamps.writer[at] = shared_clock.stamp | (access == Access::kAtomic ? Stamps::kAtomic : 0);
      stamps.write_site[at / 4] = site;
    }
  }
  return "";
}

std::string BeginCopy(size_t offset, const void* site) {
  for (size_t at = offset; at < offset + kGranule; ++at) {
    std::string fault = FaultOfByte(Access::kWrite, at);
    if (!fault.empty()) return fault;
  }
  for (size_t at = offset; at < offset + kGranule; ++at) {
    stamps.writer[at] = shared_clock.stamp | Stamps::kPending;
    stamps.write_site[at / 4] = site;
  }
  return "";
}

void EndCopy(size_t offset) {
  for (size_t at = offset; at < offset + kGranule; ++at) stamps.writer[at] = shared_clock.stamp;
}

bool InSharedArray(size_t offset, size_t bytes) {
  return offset < kSharedSpan && offset % kGranule + bytes <= shared_memory.valid[offset / kGranule];
}

void PrepareSharedMemory(size_t limit) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_POISON_MEMORY_REGION(shared_memory.bytes, kSharedSpan);
#endif
  std::memset(shared_memory.valid, 0, sizeof(shared_memory.valid));
  state.static_arrays.clear();
  state.static_bytes = 0;
  state.dynamic_bytes = 0;
  state.limit = limit;
}

void StartSharedMemory(size_t dynamic_bytes) {
  state.dynamic_bytes = dynamic_bytes;
  Place({.offset = kStaticSpan, .bytes = dynamic_bytes});
  for (const Array& array : state.static_arrays) Place(array);
  if (state.now > kLastTime / 2) {
    std::memset(&stamps, 0, sizeof(stamps));
    SetNow(0);
  }
  SetNow(state.now + 1);
  shared_clock.start = StampAt(state.now);
  shared_clock.floor = shared_clock.start;
  std::fill(std::begin(warp_floors), std::end(warp_floors), 0);
  shared_clock.warp_floor = 0;
  std::fill(std::begin(state.lane_times_used), std::end(state.lane_times_used), false);
}

size_t StaticSharedBytes() { return state.static_bytes; }

void OrderBlock() {
  Tick();
  shared_clock.floor = StampAt(state.now);
}

void OrderWarp(unsigned warp, unsigned mask, unsigned live) {
  Tick();
  if ((live & ~mask) == 0) {
    warp_floors[warp] = StampAt(state.now);
    shared_clock.warp_floor = warp_floors[warp];
    state.lane_times_used[warp] = false;
    return;
  }
  if (state.lane_times[warp] == nullptr) state.lane_times[warp] = new LaneTimes;
  LaneTimes& known = *state.lane_times[warp];
  if (!state.lane_times_used[warp]) {
    known = {};
    state.lane_times_used[warp] = true;
  }
  int32_t joined[kWarpLanes] = {};
  for (unsigned other = 0; other < kWarpLanes; ++other) {
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
      joined[other] = std::max(joined[other], known.times[std::countr_zero(rest)][other]);
    }
    if ((mask >> other & 1) != 0) joined[other] = state.now;
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    std::copy(std::begin(joined), std::end(joined), known.times[std::countr_zero(rest)]);
  }
}

void* SharedVariable::Address(Site site) {
  const OutsideKernel outside;
  if (launch_ == LaunchNumber()) return address_;
  const size_t rounded = (bytes_ + kGranule - 1) / kGranule * kGranule;
  if (state.static_bytes + rounded > kMaxStaticShared ||
      state.static_bytes + rounded + state.dynamic_bytes > state.limit) {
    FailThread("static and dynamic shared memory are more than a block may have", site, __builtin_return_address(0));
  }
  launch_ = LaunchNumber();
  size_t offset = 0;
  if (!state.static_arrays.empty()) {
    const Array& last = state.static_arrays.back();
    offset = last.offset + (last.bytes + kGranule - 1) / kGranule * kGranule + kGap;
  }
  state.static_arrays.push_back({.offset = offset, .bytes = bytes_});
  Place(state.static_arrays.back());
  state.static_bytes += rounded;
  address_ = shared_memory.bytes + offset;
  return address_;
}

void* DynamicShared() { return shared_memory.bytes + kStaticSpan; }

}  // namespace lukv::emulator
