#include "engine/worker_choice.h"

#include <gtest/gtest.h>

#include <map>
#include <thread>
#include <vector>

namespace ptqx::engine {
namespace {

using Times = std::map<int, double>;  // by workers, in units of a short run

constexpr double kUnit = WorkerChoice::kLong / 1000;

/// Runs until every number was tried; what the next run takes.
int choose(WorkerChoice& choice, const Times& times, double first = 0.0) {
  int before = 0;
  for (size_t run = 0; run < times.size() * WorkerChoice::kTrials; ++run) {
    const int workers = choice.next();
    choice.record(workers, kUnit * (workers != before ? first : times.at(workers)));
    before = workers;
  }
  return choice.next();
}

TEST(WorkerChoice, candidates_fall_by_halves) {
  EXPECT_EQ(WorkerChoice::candidates(1), (std::vector<int>{1}));
  EXPECT_EQ(WorkerChoice::candidates(2), (std::vector<int>{2, 1}));
  EXPECT_EQ(WorkerChoice::candidates(11), (std::vector<int>{11, 6, 3, 2, 1}));
}

TEST(WorkerChoice, one_worker_is_no_choice) {
  WorkerChoice choice(1);
  for (int run = 0; run < 100; ++run) {
    EXPECT_EQ(choice.next(), 1);
    choice.record(1, 1.0);
  }
}

TEST(WorkerChoice, begins_with_all_workers) { EXPECT_EQ(WorkerChoice(4).next(), 4); }

TEST(WorkerChoice, each_number_is_tried_some_times_in_succession_and_that_twice) {
  WorkerChoice choice(2);
  for (size_t succession = 0; succession < 2 * WorkerChoice::kSuccessions; ++succession) {
    for (size_t run = 0; run < WorkerChoice::kSuccession; ++run) {
      const int workers = choice.next();
      EXPECT_EQ(workers, succession % 2 == 0 ? 2 : 1);
      choice.record(workers, kUnit);
    }
  }
}

TEST(WorkerChoice, fastest_number_wins_whatever_the_first_run_of_a_succession_took) {
  for (const auto& [times, best] : std::vector<std::pair<Times, int>>{
           {{{4, 1.0}, {2, 2.0}, {1, 4.0}}, 4},
           {{{4, 3.0}, {2, 2.0}, {1, 4.0}}, 2},
           {{{4, 3.0}, {2, 2.0}, {1, 1.0}}, 1},
           {{{4, 0.97}, {2, 0.98}, {1, 1.0}}, 1},  // too little for three more workers
           {{{4, 0.90}, {2, 0.92}, {1, 1.0}}, 2}}) {
    for (const double first : {0.0, 100.0}) {
      WorkerChoice choice(4);
      EXPECT_EQ(choose(choice, times, first), best);
    }
  }
}

TEST(WorkerChoice, one_slow_run_decides_nothing) {
  WorkerChoice choice(2);
  for (size_t run = 0; run < 2 * WorkerChoice::kTrials; ++run) {
    const int workers = choice.next();
    choice.record(workers, kUnit * (run == 3 ? 100.0 : workers == 2 ? 1.0 : 2.0));
  }
  EXPECT_EQ(choice.next(), 2);
}

TEST(WorkerChoice, one_disturbed_succession_decides_nothing) {
  for (const size_t disturbed : {0, 2}) {  // of two workers; the others are of one
    WorkerChoice choice(2);
    for (size_t run = 0; run < 2 * WorkerChoice::kTrials; ++run) {
      const int workers = choice.next();
      const bool is_disturbed = run / WorkerChoice::kSuccession == disturbed;
      choice.record(workers, kUnit * (workers == 1 ? 2.0 : is_disturbed ? 3.0 : 1.0));
    }
    EXPECT_EQ(choice.next(), 2);
  }
}

TEST(WorkerChoice, a_choice_is_made_again_later_and_ever_later_while_it_stays) {
  WorkerChoice choice(2);
  const auto expect_runs = [&](int64_t runs, int workers) {
    for (int64_t run = 1; run < runs; ++run) EXPECT_EQ(choice.next(), workers);
  };
  EXPECT_EQ(choose(choice, {{2, 3.0}, {1, 2.0}}), 1);
  expect_runs(WorkerChoice::kRunsBetween, 1);
  EXPECT_EQ(choose(choice, {{2, 3.0}, {1, 2.0}}), 1);
  expect_runs(2 * WorkerChoice::kRunsBetween, 1);
  EXPECT_EQ(choose(choice, {{2, 1.0}, {1, 2.0}}), 2);
  expect_runs(WorkerChoice::kRunsBetween, 2);
  EXPECT_EQ(choose(choice, {{2, 1.0}, {1, 2.0}}), 2);
  expect_runs(2 * WorkerChoice::kRunsBetween, 2);
  EXPECT_EQ(choose(choice, {{2, 3.0}, {1, 2.0}}), 1);
}

TEST(WorkerChoice, long_runs_are_left_to_all_workers) {
  WorkerChoice choice(2);
  for (int64_t run = 0; run < 3 * WorkerChoice::kRunsBetween; ++run) {
    EXPECT_EQ(choice.next(), 2);
    choice.record(2, run == 0 ? 0.0 : WorkerChoice::kLong);
  }
}

TEST(WorkerChoice, callers_at_the_same_time_come_to_a_choice) {
  WorkerChoices choices;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int run = 0; run < 30; ++run) {
        const auto choice = choices.find(1, 4);
        const int workers = choice->next();
        choice->record(workers, kUnit * (workers == 2 ? 1.0 : 2.0));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(choices.find(1, 4)->next(), 2);
  EXPECT_EQ(choices.find(1, 3)->next(), 3);
  choices.clear();
  EXPECT_EQ(choices.find(1, 4)->next(), 4);
}

}  // namespace
}  // namespace ptqx::engine
