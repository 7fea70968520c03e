#include "ops/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace ptqx::ops {
namespace {

constexpr size_t kLeast = 64 << 10;  // bytes that are worth a request

/// The whole pages that hold some bytes.
struct Pages {
  explicit Pages(std::span<const uint8_t> bytes)
      : size(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE))),
        begin(reinterpret_cast<uintptr_t>(bytes.data()) / size * size),
        count((reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size() - begin + size - 1) / size) {}

  void* address() const { return reinterpret_cast<void*>(begin); }

  const uintptr_t size, begin, count;
};

}  // namespace

void release_pages([[maybe_unused]] std::span<const uint8_t> bytes) {
#ifdef MADV_PAGEOUT
  if (bytes.size() < kLeast) return;
  const Pages pages(bytes);
  madvise(pages.address(), pages.count * pages.size, MADV_PAGEOUT);
  if (resident_bytes(bytes) == 0) return;
  // Pages that the system was busy with have left this process, but not the file cache. Only those that the
  // process looks at can be asked for again.
  const volatile uint8_t* data = bytes.data();
  for (size_t i = 0; i < bytes.size(); i += pages.size) static_cast<void>(data[i]);
  madvise(pages.address(), pages.count * pages.size, MADV_PAGEOUT);
#endif
}

size_t resident_bytes(std::span<const uint8_t> bytes) {
#ifdef __linux__
  const Pages pages(bytes);
  std::vector<unsigned char> resident(pages.count);
  if (mincore(pages.address(), pages.count * pages.size, resident.data()) == 0) {
    const auto count = std::count_if(resident.begin(), resident.end(), [](auto flags) { return flags & 1; });
    return std::min(static_cast<size_t>(count) * pages.size, bytes.size());
  }
#endif
  return bytes.size();
}

}  // namespace ptqx::ops
