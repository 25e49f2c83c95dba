#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "fair_lock.hpp"

using selfheal::runtime::FairLock;
using namespace std::chrono_literals;

namespace {

// Waits for what another thread will make true; fails the test if it never does.
template <typename Condition>
void wait_until(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::yield();
  }
}

bool elsewhere(FairLock& lock, bool (*act)(FairLock&)) {
  bool result = false;
  std::thread([&] { result = act(lock); }).join();
  return result;
}

bool can_take(FairLock& lock) {
  if (!lock.try_enter()) return false;
  lock.leave();
  return true;
}

}  // namespace

TEST_CASE("its holder may take it again, and gives it back as often") {
  FairLock lock;
  CHECK_FALSE(lock.is_mine());
  lock.enter();
  CHECK(lock.is_mine());
  CHECK(lock.try_enter());
  lock.enter();
  CHECK_FALSE(elsewhere(lock, [](FairLock& l) { return l.is_mine(); }));
  CHECK_FALSE(lock.leave());
  CHECK_FALSE(elsewhere(lock, can_take));
  CHECK_FALSE(lock.leave());
  CHECK_FALSE(elsewhere(lock, can_take));
  CHECK(lock.leave());
  CHECK_FALSE(lock.is_mine());
  CHECK(elsewhere(lock, can_take));
}

TEST_CASE("closing lets holders finish and tells the others") {
  FairLock lock;
  lock.enter();
  CHECK_FALSE(lock.is_closed());
  CHECK(elsewhere(lock, [](FairLock& l) {
    l.close();
    return l.is_closed();
  }));
  CHECK(lock.is_closed());
  CHECK(lock.leave());
  CHECK(elsewhere(lock, can_take));
}

TEST_CASE("threads enter in the order of arrival, and none overtakes one that waits") {
  constexpr int kThreads = 6;
  for (int round = 0; round < 5; ++round) {
    FairLock lock;
    lock.enter();
    std::vector<int> order;
    std::vector<std::thread> threads;
    std::atomic<int> ready{0};
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        ready = i + 1;
        lock.enter();
        order.push_back(i);
        lock.leave();
      });
      wait_until([&] { return ready == i + 1; });
      std::this_thread::sleep_for(20ms);  // until it has its place in the queue
    }
    lock.leave();
    // The thread that left last is back at once, and does not get it before the others.
    if (lock.try_enter()) {
      CHECK(order.size() == kThreads);
      lock.leave();
    }
    lock.enter();
    CHECK(order.size() == kThreads);
    lock.leave();
    for (std::thread& thread : threads) thread.join();
    for (int i = 0; i < kThreads; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  }
}

TEST_CASE("a thread that takes it again and again starves no other") {
  FairLock lock;
  std::atomic<bool> is_done{false};
  std::atomic<long> turns{0};
  std::thread greedy([&] {
    while (!is_done) {
      lock.enter();
      ++turns;
      lock.leave();
    }
  });
  wait_until([&] { return turns > 100; });
  for (int i = 0; i < 2000; ++i) {
    lock.enter();
    CHECK(lock.is_mine());
    lock.leave();
  }
  is_done = true;
  greedy.join();
}

TEST_CASE("many threads: one at a time, each gets all its turns") {
  constexpr int kThreads = 8;
  constexpr int kTurns = 3000;
  FairLock lock;
  long plain = 0;  // a race here is what the thread sanitizer looks for
  std::atomic<int> inside{0};
  std::atomic<int> overlaps{0};
  std::vector<long> own(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTurns; ++i) {
        if ((static_cast<std::size_t>(i) + t) % 3 == 0) {
          if (!lock.try_enter()) lock.enter();
        } else {
          lock.enter();
        }
        if (inside.fetch_add(1) != 0) ++overlaps;
        const bool is_nested = i % 4 == 0;
        if (is_nested) lock.enter();
        ++plain;
        ++own[t];
        if (is_nested && lock.leave()) ++overlaps;
        inside.fetch_sub(1);
        if (!lock.leave()) ++overlaps;
        if (i % 64 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(overlaps == 0);
  CHECK(plain == static_cast<long>(kThreads) * kTurns);
  for (const long turns : own) CHECK(turns == kTurns);
  CHECK(lock.try_enter());
  CHECK(lock.leave());
}

TEST_CASE("no wake-up is lost: two threads hand it to and fro") {
  FairLock lock;
  long total = 0;
  const auto work = [&] {
    for (int i = 0; i < 20000; ++i) {
      lock.enter();
      ++total;
      lock.leave();
    }
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(total == 40000);
}

TEST_CASE("giving way lets in who waits, then goes on") {
  FairLock lock;
  lock.enter();
  CHECK_FALSE(lock.give_way());  // no thread waits
  std::atomic<bool> is_in{false};
  std::thread other([&] {
    lock.enter();
    is_in = true;
    lock.leave();
  });
  wait_until([&] { return lock.can_give_way(); });
  lock.enter();
  CHECK_FALSE(lock.give_way());  // what was taken twice is not given away
  CHECK_FALSE(lock.leave());
  CHECK_FALSE(is_in);
  CHECK(lock.give_way());
  CHECK(is_in);
  CHECK(lock.is_mine());
  CHECK(lock.leave());
  other.join();
}
