#include "engine/arena.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace ptqx::engine {
namespace {

bool live_together(const Lifetime& a, const Lifetime& b) {
  return a.first_step <= b.last_step && b.first_step <= a.last_step;
}

TEST(Arena, place_random_lifetimes_never_overlap) {
  std::mt19937 random(1);
  const auto below = [&](int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random); };
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> buffers(static_cast<size_t>(1 + below(30)));
    for (Lifetime& buffer : buffers) {
      buffer = {static_cast<size_t>(below(1000)), below(20), 0};
      buffer.last_step = buffer.first_step + below(5);
    }
    const Placement placement = place(buffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(placement.offsets[i] % kAlignment, 0U);
      EXPECT_LE(placement.offsets[i] + buffers[i].bytes, placement.bytes);
      for (size_t j = 0; j < i; ++j) {
        const bool apart = placement.offsets[i] + buffers[i].bytes <= placement.offsets[j] ||
                           placement.offsets[j] + buffers[j].bytes <= placement.offsets[i];
        EXPECT_TRUE(apart || !live_together(buffers[i], buffers[j]))
            << "round " << round << ": " << i << ", " << j;
      }
    }
  }
}

TEST(Arena, place_chain_needs_the_two_largest_neighbours) {
  const Placement placement = place({{640, 0, 1}, {1280, 1, 2}, {640, 2, 3}, {64, 3, 4}});
  EXPECT_EQ(placement.bytes, 640U + 1280U);
}

TEST(Arena, block_pool_keeps_as_many_as_it_was_told) {
  BlockPool pool(1);
  auto first = pool.take();
  auto second = pool.take();
  uint8_t* memory = first->reserve(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % kAlignment, 0U);
  EXPECT_EQ(first->reserve(10), memory);
  pool.give_back(std::move(first));
  pool.give_back(std::move(second));
  EXPECT_EQ(pool.take()->bytes(), 1000U);
  EXPECT_EQ(pool.take()->bytes(), 0U);
}

TEST(Arena, block_pool_gives_threads_the_blocks_that_they_had) {
  BlockPool pool(2);
  auto mine = pool.take();
  mine->reserve(1000);
  auto other = pool.take();
  other->reserve(2000);
  pool.give_back(std::move(mine));
  std::thread([&] { pool.give_back(std::move(other)); }).join();
  EXPECT_EQ(pool.take()->bytes(), 1000U);
  EXPECT_EQ(pool.take()->bytes(), 2000U);
}

}  // namespace
}  // namespace ptqx::engine
