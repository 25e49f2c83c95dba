#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "selfheal/signals.hpp"

using namespace selfheal;

TEST_CASE_TEMPLATE("integers: a tensor whose signals are known", T, std::int8_t, std::uint8_t,
                   std::int16_t) {
  const T low = std::numeric_limits<T>::min();
  const T high = std::numeric_limits<T>::max();
  const std::vector<T> input{low, high, 10, 14};
  const std::vector<T> previous{low, high, 12, 10};
  const auto signals = measure_input<T>(input, {0.5, 2}, previous);
  const double mean = (static_cast<double>(low) + high + 24) / 4;
  CHECK(signals.mean == doctest::Approx(0.5 * (mean - 2)));
  CHECK(signals.saturated == 0.5);
  CHECK(signals.nonfinite == 0);
  CHECK(signals.change == doctest::Approx(0.5 * 6 / 4.0));
  CHECK(std::isnan(measure_input<T>(input, {0.5, 2}).change));
}

TEST_CASE("a constant tensor has no spread, however long and far from zero") {
  const std::vector<std::int16_t> ints(300000, -32767);
  CHECK(measure_input<std::int16_t>(ints, {0.1, 0}).std == 0.0);
  const std::vector<float> floats(300000, 1e30F);
  CHECK(measure_input<float>(floats, {}).std == 0.0);
}

TEST_CASE("floats that are not finite are counted, not averaged") {
  const float nan = std::nanf("");
  const std::vector<float> input{nan, 1.0F, 3.0F, HUGE_VALF};
  const std::vector<float> previous{0.0F, nan, 1.0F, 0.0F};
  const auto signals = measure_input<float>(input, {}, previous);
  CHECK(signals.mean == 2.0);
  CHECK(signals.std == 1.0);
  CHECK(signals.nonfinite == 2);
  CHECK(signals.change == 2.0);
  const std::vector<float> none{nan};
  CHECK(std::isnan(measure_input<float>(none, {}).mean));
}

TEST_CASE("probabilities and logits") {
  const std::vector<float> p{0.2F, 0.5F, 0.3F};
  const auto a = measure_output<float>(p, {}, OutputKind::kProbabilities);
  CHECK(a.label == 1);
  CHECK(a.confidence == doctest::Approx(0.5));
  CHECK(a.margin == doctest::Approx(0.2));
  CHECK(a.entropy == doctest::Approx(1.0296530140645737));
  std::vector<float> logits;
  for (const float x : p) logits.push_back(std::log(x) + 700.0F);
  const auto b = measure_output<float>(logits, {}, OutputKind::kLogits);
  CHECK(b.label == 1);
  CHECK(b.confidence == doctest::Approx(0.5).epsilon(1e-3));
  CHECK(b.margin == doctest::Approx(0.2).epsilon(1e-3));
  CHECK(b.entropy == doctest::Approx(1.02965).epsilon(1e-3));
}

TEST_CASE("quantised softmax; ties go to the first; one class") {
  const std::vector<std::int8_t> even{0, 0};
  const auto tie = measure_output<std::int8_t>(even, {1.0 / 256, -128}, OutputKind::kProbabilities);
  CHECK(tie.label == 0);
  CHECK(tie.confidence == 0.5);
  CHECK(tie.margin == 0.0);
  CHECK(tie.entropy == doctest::Approx(std::log(2.0)));
  const std::vector<std::uint8_t> one{200};
  CHECK(measure_output<std::uint8_t>(one, {1.0 / 256, 0}, OutputKind::kProbabilities).margin ==
        doctest::Approx(200.0 / 256));
  const std::vector<std::uint8_t> zeros(1000, 0);
  CHECK(std::isnan(
      measure_output<std::uint8_t>(zeros, {1.0 / 256, 0}, OutputKind::kProbabilities).entropy));
}

TEST_CASE("an output that is not finite has no label") {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    const std::vector<float> output{0.1F, bad, 0.9F};
    const auto signals = measure_output<float>(output, {}, OutputKind::kLogits);
    CHECK(signals.label == -1);
    CHECK(std::isnan(signals.confidence));
  }
}
