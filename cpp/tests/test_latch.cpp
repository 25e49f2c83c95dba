#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "samples.hpp"
#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/latch.hpp"

using selfheal::Latch;
using selfheal::state_tag;
using selfheal::StateCorruptError;
using selfheal::StateReader;
using selfheal::StateWriter;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::byte> written(const Latch& latch) {
  StateWriter writer(state_tag("LTCH"), 1);
  latch.write(writer);
  return std::move(writer).finish();
}

Latch restored(const std::vector<std::byte>& blob, std::uint64_t used) {
  StateReader reader(blob, state_tag("LTCH"), 1);
  Latch latch;
  latch.read(reader, used);
  reader.finish();
  return latch;
}

}  // namespace

TEST_CASE("off: every alarm is raised, and nothing is held") {
  Latch latch;
  for (std::uint64_t used = 10; used < 20; ++used) {
    CHECK(latch.tell(1, used, 5.0, 3, 1.0));
    CHECK_FALSE(latch.holds(used, 5.0));
  }
}

TEST_CASE("on: the first alarm of a shift on each side, and no other while it lasts") {
  Latch latch(true);
  CHECK(latch.tell(1, 100, kNan, 20, 1.0));
  std::uint64_t used = 100;
  for (int n = 0; n < 200; ++n) {
    CHECK_FALSE(latch.tell(1, used += 20, 20.0, 20, 1.0));
    CHECK(latch.holds(used, 0.0));
  }
  CHECK(latch.tell(-1, used += 20, -20.0, 20, -1.0));
  CHECK_FALSE(latch.tell(-1, used += 20, -20.0, 20, -1.0));
  CHECK_FALSE(latch.tell(1, used += 20, 20.0, 20, 1.0));
}

TEST_CASE("an alarm without a known side counts as one above") {
  Latch latch(true);
  CHECK(latch.tell(0, 100, kNan, 20, 1.0));
  CHECK_FALSE(latch.tell(1, 120, 20.0, 20, 1.0));
}

TEST_CASE("it holds for kLeast samples, whatever they say") {
  Latch latch(true);
  latch.tell(1, 100, kNan, 5, 2.0);
  CHECK(latch.holds(100 + Latch::kLeast - 1, -1e6));
  CHECK_FALSE(latch.holds(100 + Latch::kLeast, -1e6));
}

TEST_CASE("the likelihood ratio ends it: n samples whose sum is S, half the shift d") {
  constexpr double kHalf = 0.4;
  for (const double side : {1.0, -1.0}) {
    Latch latch(true);
    latch.tell(side > 0.0 ? 1 : -1, 1000, kNan, 100000, side * 2.0 * kHalf);
    for (const std::uint64_t quiet : {64U, 100U, 1000U}) {
      // d S - n d^2 / 2 == -kEvidence
      const auto n = static_cast<double>(quiet);
      const double edge = (0.5 * n * kHalf * kHalf - Latch::kEvidence) / kHalf;
      CHECK(latch.holds(1000 + quiet, side * (edge + 1e-9)));
      CHECK_FALSE(latch.holds(1000 + quiet, side * (edge - 1e-9)));
    }
  }
}

TEST_CASE("without a scale, time ends it: kTimes the longest time of an alarm") {
  Latch latch(true);
  latch.tell(1, 1000, kNan, 50, 1.0);
  CHECK(latch.holds(1000 + 50 * Latch::kTimes - 1, kNan));
  CHECK_FALSE(latch.holds(1000 + 50 * Latch::kTimes, kNan));
  latch.tell(1, 1120, kNan, 7, 1.0);  // took 120 since the one before
  CHECK(latch.holds(1120 + 120 * Latch::kTimes - 1, kNan));
  CHECK_FALSE(latch.holds(1120 + 120 * Latch::kTimes, kNan));
  CHECK(latch.tell(1, 1120 + 120 * Latch::kTimes, kNan, 30, 1.0));  // news again
  CHECK_FALSE(latch.holds(1120 + 128 * Latch::kTimes + 240, kNan));
}

TEST_CASE("the least estimate of a shift is the one that has to be left") {
  Latch latch(true);
  latch.tell(1, 100, kNan, 100000, 3.0);
  latch.tell(1, 130, 60.0, 30, 0.5);
  latch.tell(1, 160, 60.0, 30, 2.0);
  // Half of 0.5: 200 samples without any shift are evidence of 200 / 32 = 6.25, 230 of 7.2.
  CHECK(latch.holds(160 + 200, 0.0));
  CHECK_FALSE(latch.holds(160 + 230, 0.0));
}

TEST_CASE("a shift that came back is news; clear() makes any alarm news") {
  Latch latch(true);
  latch.tell(1, 100, kNan, 100000, 1.0);
  CHECK(latch.tell(1, 300, 0.0, 10, 1.0));
  CHECK_FALSE(latch.tell(1, 320, 20.0, 10, 1.0));
  latch.clear();
  CHECK_FALSE(latch.holds(320, 20.0));
  CHECK(latch.tell(1, 340, 20.0, 10, 1.0));
}

TEST_CASE("what came before an alarm's onset is judged alone: back is not the same as going on") {
  Latch latch(true);
  latch.tell(1, 100, kNan, 100000, 1.0);
  // 100 samples without a shift, and 40 with it, of which the alarm says that they began at 200.
  Latch whole = latch;
  CHECK_FALSE(whole.tell(1, 240, 40.0, 40, 1.0));
  CHECK(Latch(latch).tell(1, 240, 40.0, 40, 1.0, Latch::Before{200, 0.0}));
  // Not where it had not ended: too few samples, or of a mean that says so.
  CHECK_FALSE(
      Latch(latch).tell(1, 240, 40.0, 40, 1.0, Latch::Before{100 + Latch::kLeast - 1, 0.0}));
  CHECK_FALSE(Latch(latch).tell(1, 240, 90.0, 40, 1.0, Latch::Before{200, 50.0}));
  CHECK_FALSE(Latch(latch).tell(1, 240, 140.0, 40, 1.0, Latch::Before{90, 0.0}));
}

TEST_CASE("what has ended when charts start anew is forgotten; of the rest the evidence stays") {
  Latch latch(true);
  latch.tell(1, 100, kNan, 100000, 1.0);
  Latch ended = latch;
  ended.settle(200, 0.0);
  CHECK(ended.tell(1, 210, 10.0, 10, 1.0));
  // A ratio of -5 after 100 samples: as much as 40 samples without a shift say.
  Latch doubted = latch;
  doubted.settle(200, 15.0);
  CHECK(doubted.holds(223, 0.0));
  CHECK_FALSE(doubted.holds(224, 0.0));
  CHECK(doubted.holds(240, 12.0));
  Latch lasting = latch;
  lasting.settle(200, 100.0);
  CHECK(lasting.holds(200 + 56, 0.0));
  CHECK_FALSE(lasting.holds(200 + 64, 0.0));
  Latch negative(true);
  negative.tell(-1, 100, kNan, 100000, -1.0);
  negative.settle(200, -100.0);
  CHECK(negative.holds(200 + 56, 0.0));
}

TEST_CASE("of samples without a shift it lets go, of shifted ones not, as often as it says") {
  constexpr int kRuns = 200;
  int gone = 0;
  int lost = 0;
  for (std::uint64_t run = 0; run < kRuns; ++run) {
    const auto samples = selfheal::testing::normal_samples(400, run);
    Latch latch(true);
    latch.tell(1, 0, kNan, 100000, 1.0);
    double quiet = 0.0;
    double shifted = 0.0;
    bool is_held = true;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      quiet += samples[i];
      shifted += samples[i] + 1.0;
      is_held = is_held && latch.holds(i + 1, shifted);
    }
    gone += latch.holds(samples.size(), quiet) ? 0 : 1;
    lost += is_held ? 0 : 1;
  }
  CHECK(gone == kRuns);  // 400 samples: evidence of 50 on average, of 21 at three deviations
  CHECK(lost <= 1);      // at most exp(-7) of the runs
}

TEST_CASE("a state continues, and what no latch can have is refused") {
  Latch latch(true);
  latch.tell(-1, 100, kNan, 20, -1.0);
  const auto blob = written(latch);
  Latch copy = restored(blob, 130);
  CHECK(written(copy) == blob);
  CHECK(copy.is_on());
  for (const double sum : {-40.0, 0.0, 40.0}) CHECK(copy.holds(170, sum) == latch.holds(170, sum));
  CHECK_FALSE(copy.tell(-1, 130, -20.0, 30, -1.0));
  CHECK_THROWS_AS(restored(blob, 99), StateCorruptError);  // an alarm in the future
}
