#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/dispatch.h"

namespace ptqx::kernels {
namespace {

TEST(IsaTest, ScalarIsSupportedEverywhere) {
  EXPECT_TRUE(isa_supported(Isa::kScalar));
  EXPECT_STREQ(isa_name(Isa::kScalar), "scalar");
  EXPECT_STREQ(isa_name(Isa::kAvx512Vnni), "avx512vnni");
}

TEST(IsaTest, DetectionAgreesWithTheCompilersOwn) {
  EXPECT_EQ(isa_supported(Isa::kAvx2), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(isa_supported(Isa::kAvx512Vnni),
            __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
                __builtin_cpu_supports("avx512vnni") != 0);
  EXPECT_EQ(isa_supported(Isa::kAvx512Vpopcntdq), isa_supported(Isa::kAvx512Vnni) &&
                                                      __builtin_cpu_supports("avx512vpopcntdq") != 0 &&
                                                      __builtin_cpu_supports("avx512vbmi") != 0);
  // GCC 12 names no AMX here.
  EXPECT_LE(isa_supported(Isa::kAmxInt8), isa_supported(Isa::kAvx512Vnni));
}

TEST(IsaTest, CeilingIsLoweredAndRaised) {
  const Isa before = isa_ceiling();
  set_isa_ceiling(Isa::kScalar);
  EXPECT_EQ(isa_ceiling(), Isa::kScalar);
  set_isa_ceiling(before);
  EXPECT_EQ(isa_ceiling(), before);
}

TEST(IsaTest, UnsupportedCeilingIsAnError) {
  for (const Isa isa : kIsas) {
    if (isa_supported(isa)) continue;
    EXPECT_THROW(set_isa_ceiling(isa), std::invalid_argument) << isa_name(isa);
  }
}

// The variable is read once, so each value needs a process of its own.
void exit_with_ceiling(const char* value) {
  setenv("PTQX_ISA", value, 1);
  try {
    std::fprintf(stderr, "ceiling %s", isa_name(isa_ceiling()));
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "error %s", error.what());
  }
  std::exit(0);
}

TEST(IsaDeathTest, EnvironmentLowersTheCeiling) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_with_ceiling("scalar"), testing::ExitedWithCode(0), "ceiling scalar");
}

TEST(IsaDeathTest, UnknownNameInTheEnvironmentListsTheSupportedOnes) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_with_ceiling("avx1024"), testing::ExitedWithCode(0),
              "error PTQX_ISA: expected one of scalar.* on this CPU, got 'avx1024'");
}

TEST(IsaDeathTest, UnsupportedNameInTheEnvironmentIsAnError) {
  if (isa_supported(Isa::kAvxVnni)) GTEST_SKIP() << "this CPU supports avxvnni";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_with_ceiling("avxvnni"), testing::ExitedWithCode(0), "error PTQX_ISA: .* got 'avxvnni'");
}

}  // namespace
}  // namespace ptqx::kernels
