#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "counting_new.hpp"
#include "selfheal/learn/committee.hpp"

using namespace selfheal;
using testing::allocations_in;
using Answer = Committee::Answer;

namespace {

constexpr std::array<double, 2> kEven{0.5, 0.5};

Committee two(Committee::Combine combine = Committee::Combine::kMean) {
  return {2, 3, 8, combine, true};
}

Answer real(const std::array<float, 3>& values, bool is_trusted = true) {
  return {values.data(), true, is_trusted};
}

}  // namespace

TEST_CASE("probabilities are averaged by weight") {
  Committee committee = two();
  const std::array<float, 3> a{0.7F, 0.2F, 0.1F};
  const std::array<float, 3> b{0.1F, 0.8F, 0.1F};
  const std::array<Answer, 2> answers{real(a), real(b)};
  const auto found = committee.combine(answers, std::array<double, 2>{0.25, 0.75});
  CHECK(found.label == 1);
  CHECK(found.confidence == doctest::Approx(0.65));
  CHECK(found.is_parted);
  CHECK(found.is_trusted);
  CHECK(committee.combined()[0] == doctest::Approx(0.25));
}

TEST_CASE("votes and the best") {
  const std::array<float, 3> a{0.9F, 0.1F, 0.0F};
  const std::array<float, 3> b{0.3F, 0.4F, 0.3F};
  const std::array<Answer, 2> answers{real(a), real(b)};
  Committee vote = two(Committee::Combine::kVote);
  CHECK(vote.combine(answers, std::array<double, 2>{0.4, 0.6}).label == 1);
  CHECK(vote.combined()[1] == doctest::Approx(0.6));
  Committee best = two(Committee::Combine::kBest);
  const auto found = best.combine(answers, std::array<double, 2>{0.4, 0.6});
  CHECK(found.label == 1);
  CHECK(found.confidence == doctest::Approx(0.4));
}

TEST_CASE("floats of all sizes are raised to what a temperature asks, as by the library") {
  for (const double temperature : {0.2, 0.7, 1.6, 5.0}) {
    for (const auto scores : {Committee::Scores::kProbabilities, Committee::Scores::kLogits}) {
      for (std::size_t width = 2; width < 12; ++width) {
        CAPTURE(temperature);
        CAPTURE(width);
        Committee committee(1, width, 4, Committee::Combine::kMean, true);
        committee.set_reader(0, {scores, Committee::Number::kFloat32, 1.0, 0, temperature});
        std::vector<float> values(width);
        std::vector<double> expected(width);
        double sum = 0.0;
        for (std::size_t j = 0; j < width; ++j) {
          const double share = std::pow(10.0, -0.55 * static_cast<double>(j * 7 % width));
          const bool is_logit = scores == Committee::Scores::kLogits;
          values[j] = static_cast<float>(is_logit ? std::log(share) : share);
          expected[j] = std::pow(share, 1.0 / temperature);
          sum += expected[j];
        }
        const Answer answer{values.data(), true, true};
        committee.combine({&answer, 1}, std::array<double, 1>{1.0});
        for (std::size_t j = 0; j < width; ++j) {
          CHECK(static_cast<double>(committee.combined()[j]) ==
                doctest::Approx(expected[j] / sum).epsilon(2e-5).scale(1e-12));
        }
      }
    }
  }
}

TEST_CASE("what is infinite or no number is no answer, and a masked logit weighs nothing") {
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  for (const double temperature : {1.0, 1.5}) {
    for (const auto scores : {Committee::Scores::kProbabilities, Committee::Scores::kLogits}) {
      Committee committee(1, 3, 4, Committee::Combine::kMean, true);
      committee.set_reader(0, {scores, Committee::Number::kFloat32, 1.0, 0, temperature});
      for (const float wrong : {kInfinite, kNone}) {
        for (std::size_t at = 0; at < 3; ++at) {
          std::array<float, 3> values{0.5F, 0.25F, 0.25F};
          values[at] = wrong;
          const Answer answer = real(values);
          CHECK(committee.combine({&answer, 1}, std::array<double, 1>{1.0}).label == -1);
        }
      }
      const std::array<float, 3> masked{0.5F, -kInfinite, 0.25F};
      const Answer answer = real(masked);
      CHECK(committee.combine({&answer, 1}, std::array<double, 1>{1.0}).label == 0);
      CHECK(committee.combined()[1] < 1e-3F);
    }
  }
}

TEST_CASE("levels and their reals say the same, whatever the temperature") {
  for (const double temperature : {0.5, 1.0, 2.5}) {
    for (const auto scores : {Committee::Scores::kProbabilities, Committee::Scores::kLogits}) {
      Committee raw(1, 3, 4, Committee::Combine::kMean, true);
      Committee reals(1, 3, 4, Committee::Combine::kMean, true);
      const double scale = scores == Committee::Scores::kLogits ? 0.05 : 1.0 / 256.0;
      const Committee::Reader reader{scores, Committee::Number::kInt8, scale, -128, temperature};
      raw.set_reader(0, reader);
      reals.set_reader(0, reader);
      const std::array<std::int8_t, 3> levels{-120, 100, -128};
      std::array<float, 3> values{};
      for (std::size_t j = 0; j < 3; ++j) values[j] = static_cast<float>(scale * (levels[j] + 128));
      const std::array<double, 1> whole{1.0};
      const Answer of_levels{levels.data(), false, true};
      raw.combine({&of_levels, 1}, whole);
      const Answer of_reals = real(values);
      reals.combine({&of_reals, 1}, whole);
      double sum = 0.0;
      for (std::size_t j = 0; j < 3; ++j) {
        CHECK(raw.combined()[j] == reals.combined()[j]);
        sum += static_cast<double>(raw.combined()[j]);
      }
      CHECK(sum == doctest::Approx(1.0));
    }
  }
}

TEST_CASE("temperature is what the definition says") {
  Committee committee(1, 3, 4, Committee::Combine::kMean, true);
  committee.set_reader(
      0, {Committee::Scores::kProbabilities, Committee::Number::kFloat32, 1.0, 0, 2.0});
  const std::array<float, 3> p{0.64F, 0.32F, 0.04F};
  const Answer answer = real(p);
  committee.combine({&answer, 1}, std::array<double, 1>{1.0});
  const double sum = 0.8 + std::sqrt(0.32) + 0.2;
  CHECK(committee.combined()[0] == doctest::Approx(0.8 / sum));
  CHECK(committee.combined()[2] == doctest::Approx(0.2 / sum));
}

TEST_CASE("a sleeper's answer is kept and does not count") {
  Committee committee = two();
  const std::array<float, 3> a{0.9F, 0.05F, 0.05F};
  const std::array<float, 3> b{0.0F, 1.0F, 0.0F};
  const std::array<Answer, 2> answers{real(a), real(b)};
  const auto found = committee.combine(answers, std::array<double, 2>{1.0, 0.0});
  CHECK(found.label == 0);
  CHECK_FALSE(found.is_parted);
  CHECK(committee.kept_label(1, 1) == 1);
}

TEST_CASE("trusted is what those that are trusted would say alone") {
  Committee committee = two();
  const std::array<float, 3> a{0.9F, 0.05F, 0.05F};
  const std::array<float, 3> b{0.1F, 0.8F, 0.1F};
  const std::array<Answer, 2> same{real(a), real(a, false)};
  CHECK(committee.combine(same, kEven).is_trusted);
  CHECK_FALSE(committee.combine(same, std::array<double, 2>{0.4, 0.6}).is_trusted);
  const std::array<Answer, 2> other{real(a, false), real(b)};
  CHECK_FALSE(committee.combine(other, kEven).is_trusted);  // a decides
  const std::array<Answer, 2> none{real(a, false), real(a, false)};
  CHECK_FALSE(committee.combine(none, kEven).is_trusted);
}

TEST_CASE("losses come of kept answers, as long as they are kept") {
  Committee committee = two();
  const std::array<float, 3> a{1.0F, 0.0F, 0.0F};
  const std::array<float, 3> b{0.0F, 1.0F, 0.0F};
  const std::array<Answer, 2> answers{real(a), real(b)};
  std::array<double, 2> losses{};
  for (int t = 0; t < 8; ++t) committee.combine(answers, kEven);
  REQUIRE(committee.losses_of_class(1, 0, losses));
  CHECK(losses[0] == doctest::Approx(0.0).epsilon(1e-5));
  CHECK(losses[1] == doctest::Approx(1.0).epsilon(1e-5));
  REQUIRE(committee.losses_of_wrong(1, 0, losses));
  CHECK(losses[0] > 0.99);
  CHECK(losses[1] < 0.01);
  CHECK_FALSE(committee.losses_of_class(1, 3, losses));
  const std::array<Answer, 2> half{real(a), Answer{}};
  committee.combine(half, kEven);
  CHECK_FALSE(committee.losses_of_class(1, 0, losses));
  CHECK_FALSE(committee.losses_of_class(0, 0, losses));
  CHECK_FALSE(committee.losses_of_class(10, 0, losses));
  REQUIRE(committee.losses_of_class(9, 0, losses));
  CHECK(std::isnan(losses[1]));
}

TEST_CASE("what is no number is no answer") {
  Committee committee = two();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::array<float, 3> a{1.0F, 0.0F, 0.0F};
  Committee values(2, 3, 4, Committee::Combine::kMean, false);
  values.set_reader(0, {Committee::Scores::kValues, Committee::Number::kFloat32, 1.0, 0, 1.0});
  values.set_reader(1, {Committee::Scores::kValues, Committee::Number::kFloat32, 1.0, 0, 1.0});
  const std::array<float, 3> bad{nan, 0.0F, 0.0F};
  const std::array<Answer, 2> answers{real(a), real(bad)};
  values.combine(answers, kEven);
  CHECK(values.combined()[0] == 1.0F);
  std::array<double, 2> losses{};
  REQUIRE(values.losses_of_values(1, a, losses));
  CHECK(losses[0] == 0.0);
  CHECK(std::isnan(losses[1]));
  const std::array<Answer, 2> nothing{};
  CHECK_FALSE(committee.combine(nothing, kEven).is_trusted);
  CHECK(std::isnan(committee.combined()[0]));
}

TEST_CASE("partings alarm when there are more than there should be") {
  Committee committee = two();
  const std::array<float, 3> a{1.0F, 0.0F, 0.0F};
  const std::array<float, 3> b{0.0F, 1.0F, 0.0F};
  const std::array<Answer, 2> agree{real(a), real(a)};
  const std::array<Answer, 2> part{real(a), real(b)};
  CHECK_FALSE(committee.watch(0.0, 0.0, 1000.0));
  CHECK_FALSE(committee.watch(0.6, 0.0, 1000.0));
  REQUIRE(committee.watch(0.03, 0.3, 10000.0));
  bool alarmed = false;
  for (int t = 0; t < 2000; ++t) {  // a thirtieth of them: as it should be
    alarmed |= committee.combine(t % 40 == 0 ? part : agree, kEven).is_alarm;
  }
  CHECK_FALSE(alarmed);
  int until = 0;
  while (!alarmed && until < 500) {
    alarmed = committee.combine(until++ % 3 == 0 ? part : agree, kEven).is_alarm;
  }
  CHECK(alarmed);
  CHECK(until < 100);
}

TEST_CASE("a committee's arguments are refused by name") {
  CHECK_THROWS_AS(Committee(0, 3, 8, Committee::Combine::kMean, true), std::invalid_argument);
  CHECK_THROWS_AS(Committee(17, 3, 8, Committee::Combine::kMean, true), std::invalid_argument);
  CHECK_THROWS_AS(Committee(2, 1, 8, Committee::Combine::kMean, true), std::invalid_argument);
  CHECK_THROWS_AS(Committee(2, 3, 0, Committee::Combine::kMean, true), std::invalid_argument);
  Committee committee = two();
  const Committee::Reader cold{Committee::Scores::kLogits, Committee::Number::kFloat32, 1.0, 0,
                               0.0};
  CHECK_THROWS_AS(committee.set_reader(0, cold), std::invalid_argument);
  const Committee::Reader values{Committee::Scores::kValues, Committee::Number::kFloat32, 1.0, 0,
                                 1.0};
  CHECK_THROWS_AS(committee.set_reader(0, values), std::invalid_argument);
}

TEST_CASE("an answer allocates nothing") {
  Committee committee = two();
  committee.watch(0.05, 0.3, 1000.0);
  const std::array<float, 3> a{0.9F, 0.05F, 0.05F};
  const std::array<Answer, 2> answers{real(a), real(a, false)};
  std::array<double, 2> losses{};
  CHECK(allocations_in([&] {
          for (int t = 0; t < 20; ++t) committee.combine(answers, kEven);
          committee.losses_of_class(20, 0, losses);
        }) == 0);
}
