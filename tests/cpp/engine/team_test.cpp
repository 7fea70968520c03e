#include "engine/team.h"

#include <gtest/gtest.h>

#include <array>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/executor.h"

namespace ptqx::engine {
namespace {

/// Works whose every item must see that the work before it is done: item i of work w sets cell (w, i) to
/// w + 1 after it has found all cells of work w - 1 at w.
class Sequence {
 public:
  Sequence(int works, int64_t items) : cells_(static_cast<size_t>(works)) {
    for (int w = 0; w < works; ++w) {
      cells_[static_cast<size_t>(w)].assign(static_cast<size_t>(items), 0);
      works_.push_back({items, [this, w](const Run&, int64_t begin, int64_t end) { run(w, begin, end); }});
    }
  }

  void expect_runs(const Executor& executor, int workers) {
    for (auto& row : cells_) row.assign(row.size(), 0);
    std::atomic<int64_t> nonfinite = 0;
    const Run context{.buffers = {}, .nonfinite_inputs = nonfinite};
    Team team(works_, context, workers);
    executor.parallel_for(workers, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) team.work();
    });
    team.rethrow();
    for (size_t w = 0; w < cells_.size(); ++w) {
      for (const int cell : cells_[w]) ASSERT_EQ(cell, static_cast<int>(w) + 1) << "work " << w;
    }
    EXPECT_EQ(early_, 0);
  }

  std::vector<Work>& works() { return works_; }

 private:
  // Cells are plain integers: a missing synchronization is a data race that ThreadSanitizer reports.
  void run(int w, int64_t begin, int64_t end) {
    if (w > 0) {
      for (const int cell : cells_[static_cast<size_t>(w) - 1]) early_ += cell != w;
    }
    for (int64_t i = begin; i < end; ++i) cells_[static_cast<size_t>(w)][static_cast<size_t>(i)] += w + 1;
  }

  std::vector<Work> works_;
  std::vector<std::vector<int>> cells_;
  std::atomic<int> early_{0};
};

TEST(TeamTest, WorksFollowOneAnotherForAnyNumberOfWorkers) {
  Sequence sequence(20, 37);
  for (const int workers : {1, 2, 3, 8}) {
    const ThreadExecutor executor(workers);
    for (int repeat = 0; repeat < 50; ++repeat) sequence.expect_runs(executor, workers);
  }
}

TEST(TeamTest, OneWorkerDoesTheWorkOfMany) { Sequence(5, 64).expect_runs(SerialExecutor(), 8); }

TEST(TeamTest, WorkersBeginWithPartsOfTheirOwnAndKeepThem) {
  // The first item of every worker waits until both have one.
  struct Begin {
    int64_t item;
    std::thread::id worker;
  };
  std::array<std::vector<Begin>, 3> begins;
  std::array<std::atomic<int>, 3> begun{};
  std::mutex mutex;
  std::vector<Work> works;
  for (size_t w = 0; w < begins.size(); ++w) {
    works.push_back({8, [&, w](const engine::Run&, int64_t begin, int64_t) {
                       if (begun[w] >= 2) return;
                       {
                         const std::lock_guard lock(mutex);
                         begins[w].push_back({begin, std::this_thread::get_id()});
                       }
                       ++begun[w];
                       while (begun[w] < 2) std::this_thread::yield();
                     }});
  }
  std::atomic<int64_t> nonfinite = 0;
  const engine::Run context{.buffers = {}, .nonfinite_inputs = nonfinite};
  Team team(works, context, 2);
  std::thread other([&] { team.work(); });
  team.work();
  other.join();
  for (auto& pair : begins) {
    ASSERT_EQ(pair.size(), 2U);
    if (pair[0].item > pair[1].item) std::swap(pair[0], pair[1]);
    EXPECT_EQ(pair[0].item, 0);
    EXPECT_EQ(pair[1].item, 4);
    EXPECT_EQ(pair[0].worker, begins[0][0].worker);
  }
}

TEST(TeamTest, WorkWithoutItemsIsPassed) {
  Sequence sequence(2, 3);
  sequence.works().insert(sequence.works().begin() + 1,
                          Work{0, [](const engine::Run&, int64_t, int64_t) { FAIL(); }});
  sequence.expect_runs(ThreadExecutor(2), 2);
}

TEST(TeamTest, LaterWorksDoNotBeginAfterAnException) {
  const ThreadExecutor executor(3);
  std::atomic<int> later = 0;
  const std::vector<Work> works = {{100,
                                    [](const engine::Run&, int64_t begin, int64_t) {
                                      if (begin >= 40) throw std::runtime_error("40");
                                    }},
                                   {100, [&](const engine::Run&, int64_t, int64_t) { ++later; }}};
  std::atomic<int64_t> nonfinite = 0;
  const engine::Run run{.buffers = {}, .nonfinite_inputs = nonfinite};
  Team team(works, run, 3);
  executor.parallel_for(3, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) team.work();
  });
  EXPECT_THROW(team.rethrow(), std::runtime_error);
  EXPECT_EQ(later, 0);
}

}  // namespace
}  // namespace ptqx::engine
