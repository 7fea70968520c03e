#include "engine/executor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace ptqx::engine {
namespace {

void expect_each_index_once(const Executor& executor, int64_t count) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
  executor.parallel_for(count, [&](int64_t begin, int64_t end) {
    ASSERT_LT(begin, end);
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  for (int64_t i = 0; i < count; ++i)
    ASSERT_EQ(visits[static_cast<size_t>(i)], 1) << "index " << i << " of " << count;
}

TEST(ExecutorTest, EachIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    const ThreadExecutor executor(threads);
    EXPECT_EQ(executor.threads(), threads);
    for (const int64_t count : {0, 1, 2, 3, 31, 32, 1000}) expect_each_index_once(executor, count);
  }
  expect_each_index_once(SerialExecutor(), 7);
}

TEST(ExecutorTest, ManyCallsInARow) {
  const ThreadExecutor executor(3);
  for (int i = 0; i < 2000; ++i) expect_each_index_once(executor, 7);
}

TEST(ExecutorTest, ExceptionIsRethrownAndTheExecutorLives) {
  const ThreadExecutor executor(3);
  EXPECT_THROW(executor.parallel_for(100,
                                     [](int64_t begin, int64_t end) {
                                       if (begin <= 42 && 42 < end) throw std::runtime_error("42");
                                     }),
               std::runtime_error);
  expect_each_index_once(executor, 100);
}

TEST(ExecutorTest, NestedCallRunsInside) {
  const ThreadExecutor executor(3);
  std::atomic<int64_t> sum{0};
  executor.parallel_for(10, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      executor.parallel_for(10, [&](int64_t b, int64_t e) { sum += e - b; });
    }
  });
  EXPECT_EQ(sum, 100);
}

TEST(ExecutorTest, SeveralCallersAtOnce) {
  const ThreadExecutor executor(2);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) expect_each_index_once(executor, 64);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(ExecutorTest, ForkedChildRunsAlone) {
  const ThreadExecutor executor(3);
  expect_each_index_once(executor, 100);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int64_t sum = 0;
    executor.parallel_for(100, [&](int64_t begin, int64_t end) { sum += end - begin; });
    _exit(sum == 100 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ExecutorTest, RejectsLessThanOneThread) { EXPECT_THROW(ThreadExecutor(0), std::invalid_argument); }

}  // namespace
}  // namespace ptqx::engine
