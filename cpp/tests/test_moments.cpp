#include <doctest/doctest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <stdexcept>

#include "samples.hpp"
#include "selfheal/base/moments.hpp"

using namespace selfheal;

namespace {

void check_against_two_passes(const Moments& moments, const std::deque<double>& window) {
  REQUIRE(moments.count() == window.size());
  long double sum = 0;
  for (const double x : window) sum += x;
  const long double mean = sum / static_cast<long double>(window.size());
  long double squares = 0;
  for (const double x : window) squares += (x - mean) * (x - mean);
  REQUIRE(moments.mean() == doctest::Approx(static_cast<double>(mean)).epsilon(1e-10));
  if (window.size() < 2) {
    REQUIRE(std::isnan(moments.variance()));
  } else {
    const auto count = static_cast<long double>(window.size());
    REQUIRE(moments.variance() ==
            doctest::Approx(static_cast<double>(squares / (count - 1))).epsilon(1e-9));
  }
}

}  // namespace

TEST_CASE("window is checked") {
  CHECK_THROWS_AS(Moments(Moments::kMaxWindow + 1), std::invalid_argument);
}

TEST_CASE("empty moments are nan") {
  const Moments moments;
  CHECK(std::isnan(moments.mean()));
  CHECK(std::isnan(moments.variance()));
}

TEST_CASE("running and windowed moments equal two passes") {
  for (const std::size_t size : {0U, 1U, 2U, 7U, 64U}) {
    CAPTURE(size);
    Moments moments(size);
    std::deque<double> window;
    for (const double x : testing::normal_samples(500, size, 1000.0)) {
      moments.update(x);
      window.push_back(x);
      if (size != 0 && window.size() > size) window.pop_front();
      check_against_two_passes(moments, window);
    }
  }
}

TEST_CASE("a huge value leaves no trace once it left the window") {
  Moments moments(10);
  moments.update(1e149);
  for (int i = 0; i < 10; ++i) moments.update(i);
  CHECK(moments.mean() == doctest::Approx(4.5).epsilon(1e-15));
  CHECK(moments.variance() == doctest::Approx(55.0 / 6.0).epsilon(1e-14));
}

TEST_CASE("unusable samples are skipped and counted") {
  Moments moments(3);
  for (const double x : {1.0, 2.0, std::nan(""), HUGE_VAL, -HUGE_VAL, 1e151, 3.0}) {
    moments.update(x);
  }
  CHECK(moments.skipped() == 4);
  CHECK(moments.count() == 3);
  CHECK(moments.mean() == 2.0);
}

TEST_CASE("state continues bit for bit, at every moment") {
  for (const std::size_t size : {0U, 1U, 5U}) {
    Moments moments(size);
    for (const double x : testing::normal_samples(40, 9, 5.0)) {
      Moments copy = Moments::from_state(moments.state());
      copy.update(x);
      moments.update(x);
      REQUIRE(copy.state() == moments.state());
      REQUIRE(copy.mean() == moments.mean());
    }
  }
}

TEST_CASE("reset is as new, and memory is fixed") {
  Moments moments(8);
  const std::size_t bytes = moments.memory_bytes();
  CHECK(bytes == sizeof(Moments) + 3 * 8 * sizeof(double));
  for (int i = 0; i < 100; ++i) moments.update(i);
  CHECK(moments.memory_bytes() == bytes);
  moments.reset();
  CHECK(moments.state() == Moments(8).state());
}
