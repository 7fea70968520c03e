#include "engine/worker_choice.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>
#include <vector>

namespace ptqx::engine {
namespace {

/// Runs until there is a decision; `seconds` of each number of workers, but `first_seconds` the first time.
int decide(WorkerChoice& choice, const std::map<int, double>& seconds, double first_seconds) {
  std::set<int> seen;
  for (int run = 0; run < 1000 && choice.decided() == 0; ++run) {
    const int workers = choice.next();
    choice.record(workers, seen.insert(workers).second ? first_seconds : seconds.at(workers));
  }
  return choice.decided();
}

TEST(WorkerChoice, candidates_fall_by_halves) {
  EXPECT_EQ(WorkerChoice::candidates(1), (std::vector<int>{1}));
  EXPECT_EQ(WorkerChoice::candidates(2), (std::vector<int>{2, 1}));
  EXPECT_EQ(WorkerChoice::candidates(11), (std::vector<int>{11, 6, 3, 2, 1}));
}

TEST(WorkerChoice, one_worker_is_no_choice) { EXPECT_EQ(WorkerChoice(1).decided(), 1); }

TEST(WorkerChoice, begins_with_all_workers) { EXPECT_EQ(WorkerChoice(4).next(), 4); }

TEST(WorkerChoice, fastest_number_wins_whatever_its_first_run_took) {
  for (const auto& [seconds, best] : std::vector<std::pair<std::map<int, double>, int>>{
           {{{4, 1.0}, {2, 2.0}, {1, 4.0}}, 4},
           {{{4, 3.0}, {2, 2.0}, {1, 4.0}}, 2},
           {{{4, 3.0}, {2, 2.0}, {1, 1.0}}, 1},
           {{{4, 0.97}, {2, 0.98}, {1, 1.0}}, 1},  // too little for three more workers
           {{{4, 0.90}, {2, 0.92}, {1, 1.0}}, 2}}) {
    for (const double first : {0.0, 100.0}) {
      WorkerChoice choice(4);
      EXPECT_EQ(decide(choice, seconds, first), best);
      EXPECT_EQ(choice.next(), best);
    }
  }
}

TEST(WorkerChoice, one_slow_run_decides_nothing) {
  WorkerChoice choice(2);
  for (int run = 0; choice.decided() == 0; ++run) {
    const int workers = choice.next();
    choice.record(workers, workers == 2 && run == 6 ? 100.0 : workers == 2 ? 1.0 : 2.0);
  }
  EXPECT_EQ(choice.decided(), 2);
}

TEST(WorkerChoice, callers_at_the_same_time_come_to_a_decision) {
  WorkerChoices choices;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int run = 0; run < 200; ++run) {
        const auto choice = choices.find(1, 4);
        const int workers = choice->next();
        choice->record(workers, workers == 2 ? 1.0 : 2.0);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(choices.find(1, 4)->decided(), 2);
  EXPECT_EQ(choices.find(1, 3)->decided(), 0);
  choices.clear();
  EXPECT_EQ(choices.find(1, 4)->decided(), 0);
}

}  // namespace
}  // namespace ptqx::engine
