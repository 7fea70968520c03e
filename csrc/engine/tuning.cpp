#include "engine/tuning.h"

#include <cpuid.h>

#include <array>
#include <cstring>

#include "kernels/dispatch.h"

namespace ptqx::engine {
namespace {

/// The processor's name, as it calls itself.
std::string cpu_model() {
  constexpr unsigned kFirstLeaf = 0x80000002, kLeaves = 3;
  std::array<unsigned, 4 * kLeaves> words{};
  for (unsigned leaf = 0; leaf < kLeaves; ++leaf) {
    unsigned* w = words.data() + size_t{4} * leaf;
    if (__get_cpuid(kFirstLeaf + leaf, w, w + 1, w + 2, w + 3) == 0) return "unknown CPU";
  }
  char name[sizeof words + 1] = {};
  std::memcpy(name, words.data(), sizeof words);
  const std::string text = name;
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return "unknown CPU";
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

}  // namespace

std::string tuning_machine() {
  static const std::string model = cpu_model();
  return model + ", " + kernels::isa_name(kernels::isa_ceiling()) + ", ptqx " + PTQX_VERSION;
}

}  // namespace ptqx::engine
