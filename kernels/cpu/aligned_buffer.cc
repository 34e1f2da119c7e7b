#include "kernels/cpu/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace lukv::cpu {

void FreeAligned::operator()(std::byte* data) const { std::free(data); }

absl::StatusOr<AlignedBuffer> AllocateAligned(size_t bytes) {
  constexpr size_t kCacheLine = 64;
  constexpr size_t kHugePage = size_t{2} << 20;
  // The kernel promises more memory than there is and kills the process when it is used, so the promise is not asked
  // for.
  const size_t machine = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const bool huge = bytes >= kHugePage;
  void* data = nullptr;
  if (bytes > machine || posix_memalign(&data, huge ? kHugePage : kCacheLine, bytes != 0 ? bytes : kCacheLine) != 0) {
    return absl::ResourceExhaustedError(absl::StrFormat("cannot allocate %d bytes (%.2f GiB); the machine has %.2f GiB",
                                                        bytes, static_cast<double>(bytes) / (1u << 30),
                                                        static_cast<double>(machine) / (1u << 30)));
  }
  // Streaming weights and gathering pages miss the TLB at 4 KiB pages. A kernel without huge pages is no error.
  if (huge) madvise(data, bytes, MADV_HUGEPAGE);
  return AlignedBuffer(static_cast<std::byte*>(data));
}

absl::StatusOr<std::shared_ptr<std::byte>> SharedArena::Allocate(size_t bytes) {
  constexpr size_t kChunk = size_t{32} << 20;  // Pages that no buffer reaches are never touched, so never there.
  if (bytes > kChunk / 4) {
    LUKV_ASSIGN_OR_RETURN(AlignedBuffer own, AllocateAligned(bytes));
    return std::shared_ptr<std::byte>(own.release(), FreeAligned());
  }
  const size_t rounded = (bytes + 63) / 64 * 64;
  if (chunk_ == nullptr || kChunk - used_ < rounded) {
    LUKV_ASSIGN_OR_RETURN(AlignedBuffer chunk, AllocateAligned(kChunk));
    chunk_ = std::shared_ptr<std::byte>(chunk.release(), FreeAligned());
    used_ = 0;
  }
  std::byte* start = chunk_.get() + used_;
  used_ += rounded;
  return std::shared_ptr<std::byte>(chunk_, start);
}

}  // namespace lukv::cpu
