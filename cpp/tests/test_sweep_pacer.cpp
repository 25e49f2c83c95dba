#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>

#include "selfheal/guard/sweep_pacer.hpp"

using selfheal::SweepPacer;

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kRound = 100 * kBlock;

}  // namespace

TEST_CASE("bytes gather until they make a block") {
  SweepPacer pacer(64, 0.0, 1.0);
  for (int n = 1; n < 8; ++n) CHECK_FALSE(pacer.tick(0.0, kBlock));
  CHECK(pacer.tick(0.0, kBlock));
  CHECK(pacer.due(kRound) == kBlock);
  pacer.done();
  CHECK_FALSE(pacer.tick(1e9, kBlock));  // no pace in time
  CHECK(pacer.due(kRound) == 64);
}

TEST_CASE("a shorter round takes as many calls as the longest beside it") {
  SweepPacer pacer(64, 0.0, 1.0);
  std::uint64_t shorter = 0, one_block = 0;
  constexpr std::uint64_t kLong = 512 * 1000;
  for (std::uint64_t call = 0; call < kLong / 64; ++call) {
    if (!pacer.tick(0.0, 512)) continue;
    CHECK(pacer.due(kLong, kLong) == 512);
    shorter += pacer.due(512 * 10, kLong);
    one_block += pacer.due(512, kLong);
    pacer.done();
  }
  CHECK(shorter >= 512 * 10);
  CHECK(shorter <= 512 * 13);
  CHECK(one_block >= 512);
}

TEST_CASE("what could not be swept stays due") {
  SweepPacer pacer(64, 0.0, 1.0);
  for (int n = 0; n < 20; ++n) pacer.tick(0.0, kBlock);
  CHECK(pacer.due(kRound) == 20 * 64);
}

TEST_CASE("a round in its time, whatever the rate; at most a share at once") {
  for (const double step : {0.001, 0.0137, 0.1}) {
    SweepPacer pacer(0, 2.0, 1.0 / 8);
    double now = 5.0;
    CHECK_FALSE(pacer.tick(now, kBlock));
    double swept = 0.0;
    while (now < 7.0) {
      now += step;
      if (!pacer.tick(now, kBlock)) continue;
      swept += static_cast<double>(pacer.due(1 << 30)) / (1 << 30);
      pacer.done();
    }
    CHECK(swept > 0.99);
    CHECK(swept < 1.01 + step);
  }
  SweepPacer pacer(0, 2.0, 1.0 / 8);
  pacer.tick(0.0, kBlock);
  CHECK(pacer.tick(1e12, kBlock));
  CHECK(pacer.due(800) == 100);
}

TEST_CASE("time is due once for every tick of the clock") {
  SweepPacer pacer(0, 1.0, 1.0);
  pacer.tick(1.0, kBlock);
  CHECK(pacer.tick(1.25, kBlock));
  CHECK(pacer.due(kRound) == kRound / 4);
  pacer.done();
  CHECK_FALSE(pacer.tick(1.25, kBlock));
}

TEST_CASE("the time of the shortest round is due, too") {
  SweepPacer pacer(0, 10.0, 1.0);
  pacer.tick(0.0, kBlock);
  std::uint64_t due = 0;
  for (int n = 1; n <= 2500; ++n) {
    REQUIRE(pacer.tick(0.004 * n, kBlock));
    due += pacer.due_by_time(kBlock);
    pacer.done();
  }
  CHECK(due >= kBlock);
}

TEST_CASE("a clock that jumps back, or begins below zero") {
  SweepPacer pacer(0, 1.0, 1.0);
  CHECK_FALSE(pacer.tick(-100.0, kBlock));
  CHECK(pacer.tick(-99.5, kBlock));
  CHECK(pacer.due(kRound) == kRound / 2);
  pacer.done();
  CHECK_FALSE(pacer.tick(-1000.0, kBlock));
  CHECK(pacer.due(kRound) == 0);
  CHECK(pacer.tick(-999.5, kBlock));
  CHECK(pacer.due(kRound) == kRound / 2);
}

TEST_CASE("constructor refuses paces that are none") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double seconds : {-1.0, nan}) {
    CHECK_THROWS_AS(SweepPacer(64, seconds, 1.0), std::invalid_argument);
  }
  for (const double most : {0.0, -0.5, 1.5, nan}) {
    CHECK_THROWS_AS(SweepPacer(64, 1.0, most), std::invalid_argument);
  }
}
