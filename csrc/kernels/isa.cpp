#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/dispatch.h"

namespace ptqx::kernels {
namespace {

struct CpuidLeaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidLeaf cpuid(unsigned leaf, unsigned subleaf) {
  CpuidLeaf r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

constexpr bool bit(unsigned word, int index) { return ((word >> index) & 1U) != 0; }

/// XCR0: the register state that the operating system saves. Written as assembler because the
/// intrinsic needs a compiler flag that would let the compiler use the instructions asked about.
uint64_t saved_state() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

/// Tiles are 8 KiB of state that Linux saves only for processes that ask. It refuses where a signal stack is
/// too small for them.
bool tiles_permitted() {
#ifdef __linux__
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}

struct Support {
  bool avx2, avxvnni, avx512vnni, avx512vpopcntdq, amxint8;
};

Support detect() {
  constexpr uint64_t kYmmState = 0x6;         // xmm, ymm
  constexpr uint64_t kZmmState = 0xE6;        // and mask registers, upper halves, zmm16-31
  constexpr uint64_t kTileState = 0x3 << 17;  // configuration, data
  const uint64_t state = saved_state();
  const CpuidLeaf features = cpuid(7, 0);
  const bool avx2 = (state & kYmmState) == kYmmState && bit(cpuid(1, 0).ecx, 28) && bit(features.ebx, 5);
  const bool avxvnni = avx2 && features.eax >= 1 && bit(cpuid(7, 1).eax, 4);
  const bool avx512 = avx2 && (state & kZmmState) == kZmmState && bit(features.ebx, 16) &&      // F
                      bit(features.ebx, 17) && bit(features.ebx, 30) && bit(features.ebx, 31);  // DQ, BW, VL
  const bool avx512vnni = avx512 && bit(features.ecx, 11);
  const bool tiles = (state & kTileState) == kTileState && bit(features.edx, 24) && bit(features.edx, 25) &&
                     bit(features.ecx, 1);  // AMX-TILE, AMX-INT8, AVX512-VBMI
  return {.avx2 = avx2,
          .avxvnni = avxvnni,
          .avx512vnni = avx512vnni,
          .avx512vpopcntdq = avx512vnni && bit(features.ecx, 14) && bit(features.ecx, 1),
          .amxint8 = avx512vnni && tiles && tiles_permitted()};
}

std::string supported_names() {
  std::string names;
  for (const Isa isa : kIsas) {
    if (isa_supported(isa)) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  return names;
}

Isa highest_supported() {
  Isa best = Isa::kScalar;
  for (const Isa isa : kIsas) {
    if (isa_supported(isa)) best = isa;
  }
  return best;
}

Isa ceiling_from_environment() {
  const char* value = std::getenv("PTQX_ISA");
  if (value == nullptr || *value == '\0') return highest_supported();
  for (const Isa isa : kIsas) {
    if (std::string(value) == isa_name(isa) && isa_supported(isa)) return isa;
  }
  throw std::invalid_argument("PTQX_ISA: expected one of " + supported_names() + " on this CPU, got '" +
                              value + "'");
}

std::atomic<Isa>& ceiling() {
  static std::atomic<Isa> value{ceiling_from_environment()};
  return value;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avxvnni";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Vpopcntdq:
      return "avx512vpopcntdq";
    case Isa::kAmxInt8:
      return "amxint8";
  }
  return "unknown";
}

bool cpu_is_intel() {
  static const bool intel = [] {
    const CpuidLeaf vendor = cpuid(0, 0);
    return vendor.ebx == signature_INTEL_ebx && vendor.edx == signature_INTEL_edx &&
           vendor.ecx == signature_INTEL_ecx;
  }();
  return intel;
}

bool isa_supported(Isa isa) {
  static const Support support = detect();
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return support.avx2;
    case Isa::kAvxVnni:
      return support.avxvnni;
    case Isa::kAvx512Vnni:
      return support.avx512vnni;
    case Isa::kAvx512Vpopcntdq:
      return support.avx512vpopcntdq;
    case Isa::kAmxInt8:
      return support.amxint8;
  }
  return false;
}

Isa isa_ceiling() { return ceiling().load(std::memory_order_relaxed); }

void set_isa_ceiling(Isa isa) {
  if (!isa_supported(isa)) {
    throw std::invalid_argument("isa: expected one of " + supported_names() + " on this CPU, got '" +
                                isa_name(isa) + "'");
  }
  ceiling().store(isa, std::memory_order_relaxed);
}

}  // namespace ptqx::kernels
