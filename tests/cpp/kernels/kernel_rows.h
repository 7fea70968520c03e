#pragma once

// What the tests of kernel rows share: walking the rows and ceilings this CPU can run, output buffers that
// notice writes beyond their ends, and inputs that sit on the edges of the arithmetic.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// check(function) for every row but the first, the scalar truth, that the CPU supports.
template <class Fn, class Check>
void for_each_vector_row(std::span<const Row<Fn>> rows, Check check) {
  ASSERT_EQ(rows.front().isa, Isa::kScalar);
  for (const Row<Fn>& row : rows.subspan(1)) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    check(row.function);
    if (testing::Test::HasFatalFailure()) return;
  }
}

/// The ceiling of kernels for as long as it lives.
class Ceiling {
 public:
  explicit Ceiling(Isa isa) : before_(isa_ceiling()) { set_isa_ceiling(isa); }
  ~Ceiling() { set_isa_ceiling(before_); }
  Ceiling(const Ceiling&) = delete;
  Ceiling& operator=(const Ceiling&) = delete;

 private:
  Isa before_;
};

/// n elements, `offset` elements past an alignment of 64 bytes, between two zones that must keep their
/// pattern.
template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t n, int64_t offset = 1)
      : n_(n), storage_(static_cast<size_t>(n + offset + 3 * kGuard), kPattern) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    const auto to_alignment = static_cast<int64_t>((64 - address % 64) % 64 / sizeof(T));
    begin_ = kGuard + to_alignment + offset;
  }
  T* data() { return storage_.data() + begin_; }
  std::vector<T> values() { return {data(), data() + n_}; }
  bool guards_intact() const {
    for (int64_t i = 0; i < static_cast<int64_t>(storage_.size()); ++i) {
      const bool inside = i >= begin_ && i < begin_ + n_;
      if (!inside && storage_[static_cast<size_t>(i)] != kPattern) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr T kPattern = static_cast<T>(77);
  int64_t n_;
  int64_t begin_ = 0;
  std::vector<T> storage_;
};

/// Same bits, or both NaN.
inline bool same_number(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}
inline bool same_number(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}
template <class Integer>
bool same_number(Integer a, Integer b) {
  return a == b;
}

template <class T>
void expect_same(const std::vector<T>& expected, const std::vector<T>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(same_number(expected[i], actual[i]))
        << "element " << i << " of " << expected.size() << ": expected " << +expected[i] << ", got "
        << +actual[i];
  }
}

/// Lengths around every block of 8, 16, 32 and 64 elements.
inline const std::vector<int64_t> kLengths = {0,  1,  2,  3,  7,  8,  9,  15, 16,  17,  23,  31,
                                              32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 1000};

inline float nan_value() { return std::numeric_limits<float>::quiet_NaN(); }
inline float infinity() { return std::numeric_limits<float>::infinity(); }

/// Ordinary values, exact ties (k + 0.5) * scale and their neighbours, zeros of both signs, denormal and
/// huge numbers and, if asked for, NaN and infinities.
inline std::vector<float> edge_values(int64_t n, float scale, bool nonfinite, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 60.0F);
  std::uniform_int_distribution<int> step(-300, 300);
  std::uniform_int_distribution<int> kind(0, 15);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    const float tie = (static_cast<float>(step(random)) + 0.5F) * scale;
    switch (kind(random)) {
      case 0:
        value = tie;
        break;
      case 1:
        value = std::nextafter(tie, infinity());
        break;
      case 2:
        value = std::nextafter(tie, -infinity());
        break;
      case 3:
        value = step(random) < 0 ? -0.0F : 0.0F;
        break;
      case 4:
        value = step(random) < 0 ? -0.3F * scale : 0.3F * scale;
        break;
      case 5:
        value = std::numeric_limits<float>::denorm_min() * static_cast<float>(step(random));
        break;
      case 6:
        value = step(random) < 0 ? -3e38F : 3e38F;
        break;
      case 7:
        value = static_cast<float>(step(random)) * 1e9F;
        break;
      case 8:
        value = nonfinite ? (step(random) < 0 ? -infinity() : infinity()) : tie;
        break;
      case 9:
        value = nonfinite ? nan_value() : tie;
        break;
      default:
        value = normal(random) * scale;
        break;
    }
  }
  return values;
}

template <class T>
std::vector<T> random_codes(int64_t n, int low, int high, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(low, high);
  std::vector<T> codes(static_cast<size_t>(n));
  for (T& value : codes) value = static_cast<T>(code(random));
  return codes;
}

}  // namespace ptqx::kernels
