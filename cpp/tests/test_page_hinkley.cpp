#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "samples.hpp"
#include "selfheal/detect/page_hinkley.hpp"

using namespace selfheal;

namespace {

constexpr double kAllowance = 0.25;
constexpr double kThreshold = 6.0;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

PageHinkley make(Sides sides = Sides::kBoth) { return {10.0, 2.0, kAllowance, kThreshold, sides}; }

}  // namespace

TEST_CASE("constructor names the argument it refuses") {
  const double k = kAllowance;
  CHECK_THROWS_WITH_AS(PageHinkley(kNan, 1, k, 5), "mean: expected a finite number, got nan",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(PageHinkley(0, 0, k, 5), "std: expected a finite number > 0, got 0",
                       std::invalid_argument);
  CHECK_THROWS_AS(PageHinkley(0, 1e-320, k, 5), std::invalid_argument);
  CHECK_THROWS_AS(PageHinkley(0, 1, -0.1, 5), std::invalid_argument);
  CHECK_THROWS_AS(PageHinkley(0, 1, k, 0), std::invalid_argument);
  CHECK_THROWS_AS(PageHinkley(0, 1, k, kInfinity), std::invalid_argument);
}

TEST_CASE("a rise and a fall are found, with direction, magnitude and onset") {
  for (const int sign : {1, -1}) {
    auto chart = make();
    for (int i = 0; i < 20; ++i) CHECK_FALSE(chart.update(10.0));
    CHECK(chart.direction() == 0);
    CHECK(chart.onset() == -1);
    CHECK(chart.magnitude() == 0.0);
    int steps = 1;
    while (!chart.update(10.0 + sign * 2.0 * 1.5)) ++steps;
    CHECK(steps == static_cast<int>(std::floor(kThreshold / (1.5 - kAllowance))) + 1);
    CHECK(chart.drift_detected());
    CHECK(chart.direction() == sign);
    CHECK(chart.magnitude() == doctest::Approx(1.5));
    CHECK(chart.onset() == 20);
    CHECK(chart.statistic() > kThreshold);
    chart.update(10.0);
    CHECK_FALSE(chart.drift_detected());
    CHECK(chart.statistic() == 0.0);
  }
}

TEST_CASE("one side does not see the other's shifts") {
  auto upper = make(Sides::kUpper);
  auto lower = make(Sides::kLower);
  for (int i = 0; i < 100; ++i) {
    CHECK_FALSE(upper.update(0.0));
    CHECK_FALSE(lower.update(20.0));
  }
  CHECK_FALSE(upper.update(-1e308));
  CHECK_FALSE(lower.update(1e308));
  CHECK(upper.lower() == 0.0);
  CHECK(lower.upper() == 0.0);
}

TEST_CASE("nan and infinity are counted and silence nothing") {
  auto dirty = make();
  auto clean = make();
  for (const double x : testing::normal_samples(2000, 7, 10.4)) {
    CHECK_FALSE(dirty.update(kNan));
    CHECK_FALSE(dirty.update(-kInfinity));
    CHECK_FALSE(dirty.update(kInfinity));
    CHECK(dirty.update(x) == clean.update(x));
    CHECK(dirty.statistic() == clean.statistic());
    CHECK(dirty.magnitude() == clean.magnitude());
    CHECK(dirty.direction() == clean.direction());
    // A change may have begun in the gap before the first changed sample.
    if (clean.onset() >= 0) CHECK(dirty.onset() == 4 * clean.onset());
  }
  CHECK(dirty.skipped() == 6000);
  CHECK(dirty.count() == 8000);
}

TEST_CASE("samples beyond the range of a double alarm and pass") {
  PageHinkley chart(0.0, 1e-300, kAllowance, kThreshold);
  CHECK(chart.update(1e300));
  CHECK(chart.direction() == 1);
  CHECK_FALSE(chart.update(0.0));
  CHECK(chart.statistic() == 0.0);
  CHECK(chart.update(-1e300));
  CHECK(chart.direction() == -1);
}

TEST_CASE("a batch equals one by one, in both precisions") {
  auto samples = testing::normal_samples(5000, 3, 11.0);
  for (std::size_t i = 0; i < samples.size(); i += 97) samples[i] = kNan;
  const std::vector<float> floats(samples.begin(), samples.end());
  for (const Sides sides : {Sides::kBoth, Sides::kUpper, Sides::kLower}) {
    auto batch = make(sides);
    auto single = make(sides);
    std::vector<std::size_t> alarms;
    batch.update_many(std::span<const float>(floats), [&](std::size_t i) { alarms.push_back(i); });
    std::vector<std::size_t> expected;
    for (std::size_t i = 0; i < floats.size(); ++i) {
      if (single.update(floats[i])) expected.push_back(i);
    }
    CHECK(alarms == expected);
    CHECK(batch.state() == single.state());
  }
}

TEST_CASE("state continues bit for bit, at every moment") {
  auto chart = make();
  const auto samples = testing::normal_samples(600, 5, 11.5);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    auto copy = PageHinkley::from_state(chart.state());
    const double x = i % 13 == 0 ? kNan : samples[i];
    REQUIRE(copy.update(x) == chart.update(x));
    REQUIRE(copy.state() == chart.state());
    REQUIRE(copy.onset() == chart.onset());
    REQUIRE(copy.magnitude() == chart.magnitude());
  }
}

TEST_CASE("reset is as new") {
  auto chart = make();
  for (const double x : testing::normal_samples(100, 1, 13.0)) chart.update(x);
  chart.reset();
  CHECK(chart.state() == make().state());
}

TEST_CASE("equals the cumulative sum minus its running minimum") {
  PageHinkley chart(0.0, 1.0, 0.25, 1e6);
  long double sum = 0;
  long double lowest = 0;
  for (const double x : testing::normal_samples(200000, 11, 0.2)) {
    chart.update(x);
    sum += static_cast<long double>(x) - 0.25L;
    lowest = std::min(lowest, sum);
    REQUIRE(chart.upper() == doctest::Approx(static_cast<double>(sum - lowest)).epsilon(1e-4));
  }
}

TEST_CASE("after millions of samples it is as exact as at the start") {
  PageHinkley chart(0.0, 1.0, 0.25, 5.0, Sides::kUpper);
  const std::vector<float> zeros(1 << 16, 0.0F);
  for (int i = 0; i < 64; ++i) chart.advance(std::span<const float>(zeros));
  chart.update(0.25 + 1e-12);
  CHECK(chart.statistic() == doctest::Approx(1e-12).epsilon(1e-3));
}
