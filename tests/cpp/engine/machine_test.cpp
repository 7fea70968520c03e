#include "engine/machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <new>
#include <stdexcept>

#include "kernels/dispatch.h"

namespace ptqx::engine {
namespace {

constexpr double kSeconds = 0.005;
constexpr int64_t kBufferBytes = 1 << 16;

TEST(Machine, test_rates_are_positive_and_finite_under_every_isa_and_with_threads) {
  using kernels::Isa;
  const Isa before = kernels::isa_ceiling();
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni}) {
    if (!kernels::isa_supported(isa)) continue;
    SCOPED_TRACE(kernels::isa_name(isa));
    kernels::set_isa_ceiling(isa);
    for (const int threads : {1, 3}) {
      const MachineRates rates = measure_machine(threads, kSeconds, kBufferBytes);
      for (const double rate : {rates.u8s8_macs, rates.f32_macs, rates.read_bytes, rates.copy_bytes}) {
        EXPECT_TRUE(std::isfinite(rate) && rate > 0) << rate;
      }
    }
  }
  kernels::set_isa_ceiling(before);
}

TEST(Machine, test_a_buffer_smaller_than_a_word_a_thread_is_read) {
  EXPECT_GT(measure_machine(2, kSeconds, 1).read_bytes, 0);
}

TEST(Machine, test_buffers_that_do_not_fit_in_memory_are_an_exception) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizers end the program instead";
#endif
  EXPECT_THROW(measure_machine(2, kSeconds, int64_t{1} << 56), std::bad_alloc);
}

TEST(Machine, test_bad_arguments_are_named) {
  EXPECT_THROW(measure_machine(0, kSeconds, kBufferBytes), std::invalid_argument);
  EXPECT_THROW(measure_machine(1, 0.0, kBufferBytes), std::invalid_argument);
  EXPECT_THROW(measure_machine(1, std::nan(""), kBufferBytes), std::invalid_argument);
  EXPECT_THROW(measure_machine(1, kSeconds, -1), std::invalid_argument);
}

TEST(Machine, test_the_last_level_cache_has_a_size) { EXPECT_GT(last_level_cache_bytes(), 0); }

}  // namespace
}  // namespace ptqx::engine
