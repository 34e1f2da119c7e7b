#include "kernels/emulator/access.h"

#include <link.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/emulator/atomics.h"
#include "kernels/emulator/block.h"

namespace lukv::emulator {

RunningStack running_stack;
RunningStack current_stack;

namespace {

struct Segment {
  uintptr_t start;
  uintptr_t end;
};

// The constants of the program or module that this code is in: kernels may read them.
const std::vector<Segment>& Constants() {
  static const std::vector<Segment>* const segments = [] {
    auto* const found = new std::vector<Segment>;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t /*size*/, void* data) {
          std::vector<Segment> constants;
          bool own = false;
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const ElfW(Phdr)& header = info->dlpi_phdr[i];
            if (header.p_type != PT_LOAD && header.p_type != PT_GNU_RELRO) continue;
            const uintptr_t start = info->dlpi_addr + header.p_vaddr;
            const Segment segment = {.start = start, .end = start + header.p_memsz};
            const uintptr_t here = reinterpret_cast<uintptr_t>(&Constants);
            own |= here >= segment.start && here < segment.end;
            if (header.p_type == PT_GNU_RELRO || (header.p_flags & PF_W) == 0) constants.push_back(segment);
          }
          if (own) *static_cast<std::vector<Segment>*>(data) = constants;
          return own ? 1 : 0;
        },
        found);
    return found;
  }();
  return *segments;
}

bool IsConstant(uintptr_t address, size_t bytes) {
  for (const Segment& segment : Constants()) {
    if (address >= segment.start && address + bytes <= segment.end) return true;
  }
  return false;
}

// The kernel's arguments lie in the launch, where every thread may read them.
bool IsArgument(uintptr_t address, size_t bytes) {
  const LaunchBody& body = CurrentGrid().body;
  const uintptr_t start = reinterpret_cast<uintptr_t>(body.data.get());
  return address >= start && address + bytes <= start + body.bytes;
}

std::string FaultOfOther(Access access, uintptr_t address, size_t bytes) {
  if (address < kPageBytes) return "a null pointer";
  if (address % bytes != 0) return "misaligned address";
  if (DeviceMemory::Get().Contains(reinterpret_cast<const void*>(address))) {
    return "out of bounds, " + DeviceMemory::Get().Describe(address);
  }
  if (address - SharedBase() < kSharedSpan) return "out of bounds of the block's shared arrays";
  if (IsOnStackOfThread(address)) return "local memory of another thread";
  if (PinnedMemory::Get().Contains(reinterpret_cast<const void*>(address))) return "pinned host memory";
  if (access != Access::kRead && (IsArgument(address, bytes) || IsConstant(address, bytes))) return "constant memory";
  return "host memory";
}

std::string Describe(Access access, uintptr_t address, size_t bytes) {
  const char* const verb = access == Access::kRead    ? "reads "
                           : access == Access::kWrite ? "writes "
                                                      : "atomically updates ";
  char text[64];
  std::snprintf(text, sizeof(text), "%s%zu bytes at %#zx: ", verb, bytes, static_cast<size_t>(address));
  return text + FaultOfOther(access, address, bytes);
}

template <Access kAccess>
void CheckPiece(uintptr_t address, size_t bytes, const void* return_address) {
  switch (bytes) {
    case 1:
      return Check<kAccess, 1>(address, return_address);
    case 2:
      return Check<kAccess, 2>(address, return_address);
    case 4:
      return Check<kAccess, 4>(address, return_address);
    case 8:
      return Check<kAccess, 8>(address, return_address);
    default:
      return Check<kAccess, 16>(address, return_address);
  }
}

}  // namespace

void CheckOther(Access access, uintptr_t address, size_t bytes, const void* return_address) {
  const OutsideKernel outside;
  const bool aligned = address % bytes == 0;
  if (const uintptr_t shared = address - SharedBase(); aligned && InSharedArray(shared, bytes)) {
    std::string fault = FaultOf(access, shared, bytes, return_address);
    if (!fault.empty()) FailThread(std::move(fault), std::nullopt, return_address);
    return;
  }
  if (aligned && access == Access::kRead && (IsArgument(address, bytes) || IsConstant(address, bytes))) return;
  FailThread(Describe(access, address, bytes), std::nullopt, return_address, /*memory=*/true);
}

void BeforeAtomic(void* address, unsigned bytes, const void* return_address) {
  const OutsideKernel outside;
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (!kAddressSanitizer) {
    if (at % bytes != 0) CheckOther(Access::kAtomic, at, bytes, return_address);
    CheckRange(Access::kAtomic, at, bytes, return_address);
  }
  MaybeYield();
}

void CheckRange(Access access, uintptr_t address, size_t bytes, const void* return_address) {
  if (kAddressSanitizer) return;
  while (bytes > 0) {
    const size_t aligned = address == 0 ? kGranule : static_cast<size_t>(address & -address);
    const size_t piece = std::min({aligned, std::bit_floor(bytes), kGranule});
    switch (access) {
      case Access::kRead:
        CheckPiece<Access::kRead>(address, piece, return_address);
        break;
      case Access::kWrite:
        CheckPiece<Access::kWrite>(address, piece, return_address);
        break;
      case Access::kAtomic:
        CheckPiece<Access::kAtomic>(address, piece, return_address);
        break;
    }
    address += piece;
    bytes -= piece;
  }
}

}  // namespace lukv::emulator
