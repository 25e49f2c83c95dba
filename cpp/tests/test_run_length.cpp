#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

#include "selfheal/detect/run_length.hpp"

using namespace selfheal;

TEST_CASE("published values for k = 0.5") {
  // Lucas and Crosier, Technometrics 24 (1982), table 1; Montgomery, table 9.3: two-sided.
  CHECK(average_run_length(4, 0.5) == doctest::Approx(168.0).epsilon(0.005));
  CHECK(average_run_length(5, 0.5) == doctest::Approx(465.0).epsilon(0.002));
  CHECK(average_run_length(4, 0.5, 1.0) == doctest::Approx(8.38).epsilon(0.001));
  CHECK(average_run_length(5, 0.5, 1.0) == doctest::Approx(10.4).epsilon(0.005));
  CHECK(average_run_length(4, 0.5, 0.5) == doctest::Approx(26.6).epsilon(0.005));
  // Brook and Evans, Biometrika 59 (1972): one-sided, h = 3.
  CHECK(average_run_length(3, 0.5, 0.0, Sides::kUpper) == doctest::Approx(117.6).epsilon(0.001));
  // Siegmund (1985), as in Montgomery, eq. 9.7.
  CHECK(siegmund_average_run_length(5, 0.5) == doctest::Approx(469.1).epsilon(0.0005));
}

TEST_CASE("long run lengths keep their digits") {
  // The same equation, solved by elimination with pivoting in 64-bit mantissas.
  CHECK(average_run_length(20, 0.5, 0.0, Sides::kUpper) ==
        doctest::Approx(3090078553.3).epsilon(1e-8));
  CHECK(average_run_length(4, 2.0, 0.0, Sides::kUpper) ==
        doctest::Approx(79848363.4677).epsilon(1e-8));
  CHECK(average_run_length(3, 3.0, 0.0, Sides::kUpper) ==
        doctest::Approx(924807668.61).epsilon(1e-8));
  CHECK(average_run_length(5, 0.5, -40.0, Sides::kUpper) == HUGE_VAL);
  CHECK(average_run_length(5, 0.5, -40.0) == doctest::Approx(1.0));
}

TEST_CASE("without a threshold it is a geometric distribution") {
  const double p = 0.5 * std::erfc(1.0 / std::sqrt(2.0));
  CHECK(average_run_length(0, 1.0, 0.0, Sides::kUpper) == doctest::Approx(1 / p).epsilon(1e-12));
}

TEST_CASE("threshold and run length undo each other, from 10 to 1e12") {
  for (const double k : {0.0, 0.05, 0.125, 0.5, 1.2}) {
    for (const double arl0 : {10.0, 370.0, 1e4, 1e6, 1e9, 1e12}) {
      for (const Sides sides : {Sides::kBoth, Sides::kUpper}) {
        CAPTURE(k);
        CAPTURE(arl0);
        const double h = cusum_threshold(arl0, k, sides);
        CHECK(average_run_length(h, k, 0.0, sides) == doctest::Approx(arl0).epsilon(1e-7));
      }
    }
  }
}

TEST_CASE("run length rises with h across the change of method") {
  for (const double k : {0.1, 0.5, 2.0}) {
    double before = 0.0;
    for (double h = 0.25; h < 40; h += 0.25) {
      const double now = std::log(average_run_length(h, k));
      CHECK(now > before);
      // Its slope tends to 2 k, exactly.
      if (k * h > 3) CHECK(now - before == doctest::Approx(0.5 * k).epsilon(0.05));
      before = now;
    }
  }
}

TEST_CASE("sides mirror") {
  CHECK(average_run_length(4, 0.5, 0.7, Sides::kUpper) ==
        doctest::Approx(average_run_length(4, 0.5, -0.7, Sides::kLower)));
  CHECK(average_run_length(4, 0.5, 0.7) == doctest::Approx(average_run_length(4, 0.5, -0.7)));
}

TEST_CASE("arguments are refused by name") {
  CHECK_THROWS_WITH_AS(cusum_threshold(9, 0.5),
                       "arl0: expected a number of samples from 10 to 1e12, got 9",
                       std::invalid_argument);
  CHECK_THROWS_AS(cusum_threshold(2e12, 0.5), std::invalid_argument);
  CHECK_THROWS_AS(cusum_threshold(10, 3.0), std::invalid_argument);
  CHECK_THROWS_AS(average_run_length(-1, 0.5), std::invalid_argument);
  CHECK_THROWS_AS(average_run_length(1, NAN), std::invalid_argument);
  CHECK_THROWS_AS(parse_sides("left"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(choose_threshold("h", 1.0, 1.0, 0.5, Sides::kBoth),
                       "h: expected exactly one of h and arl0, got both", std::invalid_argument);
}
