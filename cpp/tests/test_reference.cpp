#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "samples.hpp"
#include "selfheal/detect/reference.hpp"

using namespace selfheal;

namespace {
double cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }
}  // namespace

TEST_CASE("too few finite samples are refused") {
  const std::vector<double> samples{1.0, std::nan("")};
  CHECK_THROWS_WITH_AS(Reference(std::span<const double>(samples)),
                       "samples: expected at least 2 finite numbers, got 1", std::invalid_argument);
  const std::vector<double> wide{-1.7e308, 1.7e308};
  CHECK_THROWS_AS(Reference(std::span<const double>(wide)), std::invalid_argument);
}

TEST_CASE("few levels: every level scores its mid-rank") {
  // 1 x 0, 2 x 1, 5 x 4: mid-ranks 0.5/8, 2/8, 5.5/8.
  const std::vector<double> samples{4, 0, 4, 1, 4, 1, 4, 4};
  const Reference reference{std::span<const double>(samples)};
  CHECK(cdf(reference.score(0)) == doctest::Approx(0.5 / 8).epsilon(1e-12));
  CHECK(cdf(reference.score(1)) == doctest::Approx(2.0 / 8).epsilon(1e-12));
  CHECK(cdf(reference.score(4)) == doctest::Approx(5.5 / 8).epsilon(1e-12));
}

TEST_CASE("normal samples score as themselves, to sampling error") {
  const auto samples = testing::normal_samples(100000, 1);
  const Reference reference{std::span<const double>(samples)};
  for (double x = -3.0; x <= 3.0; x += 0.25) {
    CHECK(reference.score(x) == doctest::Approx(x).epsilon(0.02).scale(3.0));
  }
}

TEST_CASE("scores rise, and stay within the bound") {
  const auto samples = testing::normal_samples(1000, 2, 5.0);
  const Reference reference{std::span<const double>(samples)};
  double before = -9.0;
  for (double x = -60.0; x < 60.0; x += 0.01) {
    const double score = reference.score(x);
    REQUIRE(score > before);
    REQUIRE(std::fabs(score) <= Reference::kBound);
    before = score;
  }
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(reference.score(infinity) == Reference::kBound);
  CHECK(reference.score(-infinity) == -Reference::kBound);
  CHECK(reference.score(std::numeric_limits<double>::max()) <= Reference::kBound);
  CHECK(std::isnan(reference.score(std::nan(""))));
}

TEST_CASE("a constant signal that moves is as far as can be") {
  const std::vector<double> samples(50, 0.7);
  const Reference reference{std::span<const double>(samples)};
  CHECK(reference.score(0.7) == 0.0);
  CHECK(reference.score(0.71) == Reference::kBound);
  CHECK(reference.score(0.69) == -Reference::kBound);
}

TEST_CASE("state gives the same scores") {
  const auto samples = testing::normal_samples(5000, 3);
  const Reference reference{std::span<const double>(samples)};
  const Reference copy = Reference::from_state(reference.state());
  CHECK(copy.state() == reference.state());
  for (double x = -9.0; x < 9.0; x += 0.0371) REQUIRE(copy.score(x) == reference.score(x));
  CHECK(copy.count() == 5000);
}
