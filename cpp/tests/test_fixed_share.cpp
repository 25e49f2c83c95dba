#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "counting_new.hpp"
#include "learn/exact_math.hpp"
#include "selfheal/learn/fixed_share.hpp"

using namespace selfheal;
using testing::allocations_in;

namespace {

constexpr std::array<double, 3> kRates{1.0 / 512, 1.0 / 128, 1.0 / 32};
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double sum(const FixedShare& share) {
  double all = 0.0;
  for (const double weight : share.weights()) all += weight;
  return all;
}

/// The recurrence as it is written, with weights that are numbers, for one rate.
struct Plain {
  std::vector<double> weights;
  double loss = 0.0;

  void update(const std::vector<double>& losses, double learning, double rate) {
    double all = 0.0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] *= std::exp(-learning * losses[i]);
      all += weights[i];
    }
    loss -= std::log(all) / learning;
    for (double& weight : weights) {
      weight = (1.0 - rate) * weight / all + rate / static_cast<double>(weights.size());
    }
  }
};

}  // namespace

TEST_CASE("our exp and log are the library's") {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> any(-690.0, 690.0);
  for (int i = 0; i < 20000; ++i) {
    const double x = any(random);
    const double e = std::exp(x);
    CHECK(std::abs(detail::exact_exp(x) - e) <= 1e-15 * e);
    const double y = std::exp(any(random));
    CHECK(std::abs(detail::exact_log(y) - std::log(y)) <= 4e-16 * (1.0 + std::abs(std::log(y))));
  }
  CHECK(detail::exact_exp(0.0) == 1.0);
  CHECK(detail::exact_log(1.0) == 0.0);
  CHECK(detail::exact_exp(-1e9) == 0.0);
}

TEST_CASE("one rate is fixed share as it is written") {
  std::mt19937 random(2);
  std::uniform_real_distribution<double> any(0.0, 1.0);
  const std::array<double, 1> rate{0.02};
  FixedShare share(4, 1.0, rate, 0.0);
  Plain plain{{0.25, 0.25, 0.25, 0.25}};
  for (int t = 0; t < 500; ++t) {
    const std::vector<double> losses{any(random), any(random), any(random), any(random)};
    share.update(losses);
    plain.update(losses, 1.0, 0.02);
    for (std::size_t i = 0; i < 4; ++i) {
      REQUIRE(share.weight(i) == doctest::Approx(plain.weights[i]).epsilon(1e-9));
    }
  }
  CHECK(share.mixture_loss() == doctest::Approx(plain.loss).epsilon(1e-9));
}

TEST_CASE("the loss exceeds no sequence of members by more than the bound") {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> any(0.0, 1.0);
  for (const std::uint64_t switches : {0U, 1U, 3U, 12U}) {
    FixedShare share(3, 1.0, kRates, 0.0);
    const int rounds = 1200;
    double best = 0.0;
    for (int t = 0; t < rounds; ++t) {
      const auto good = static_cast<std::size_t>(t * static_cast<int>(switches + 1) / rounds) % 3;
      std::array<double, 3> losses{};
      for (std::size_t i = 0; i < 3; ++i) losses[i] = i == good ? 0.1 * any(random) : any(random);
      best += losses[good];
      share.update(losses);
    }
    CHECK(share.mixture_loss() - best <= share.bound(rounds, switches));
  }
}

TEST_CASE("sleepers have nothing, floors and caps hold, and all sums to one") {
  std::mt19937 random(4);
  std::uniform_real_distribution<double> any(0.0, 1.0);
  for (const std::size_t members : {1U, 2U, 3U, 5U, 16U}) {
    const double floor = 0.4 / static_cast<double>(members);
    FixedShare share(members, 1.0, kRates, floor);
    std::vector<double> losses(members);
    std::array<bool, 16> asleep{};
    for (int t = 0; t < 3000; ++t) {
      for (double& loss : losses) loss = any(random) < 0.1 ? kNone : any(random);
      const double influence = any(random) < 0.2 ? 0.125 : 1.0;
      if (random() % 2 == 0) {
        share.update(losses, influence);
      } else {
        share.hear(losses, influence, any(random));
      }
      const auto one = static_cast<std::size_t>(random() % members);
      switch (random() % 8) {
        case 0: {
          std::array<bool, 16> next = asleep;
          next[one] = !next[one];
          if (share.set_asleep({next.data(), members})) asleep = next;
          break;
        }
        case 1:
          share.set_cap(one, any(random));
          break;
        case 2:
          share.set_cap(one, 1.0);
          break;
        case 3:
          share.restore(one);
          break;
        case 4:
          share.prove(one);
          break;
        case 5:
          share.set_weight(one, any(random));
          break;
        default:
          break;
      }
      REQUIRE(sum(share) == doctest::Approx(1.0).epsilon(1e-12));
      for (std::size_t i = 0; i < members; ++i) {
        if (asleep[i]) REQUIRE(share.weight(i) == 0.0);
        if (!asleep[i]) REQUIRE(share.weight(i) >= floor - 1e-12);
      }
    }
  }
}

TEST_CASE("a cap holds while the others can take what is left") {
  FixedShare share(3, 1.0, kRates, 0.01);
  share.set_cap(0, 0.2);
  CHECK(share.weight(0) == doctest::Approx(0.2));
  for (int t = 0; t < 100; ++t) share.update(std::array<double, 3>{0.0, 1.0, 1.0});
  CHECK(share.weight(0) == doctest::Approx(0.2));
  share.set_cap(0, 1.0);
  CHECK(share.weight(0) > 0.9);
}

TEST_CASE("who wakes begins at the floor and returns in twenty rounds") {
  FixedShare share(3, 1.0, kRates, 0.01);
  const double before = share.weight(2);
  REQUIRE(share.set_asleep(std::array<bool, 3>{false, false, true}));
  CHECK(share.weight(2) == 0.0);
  for (int t = 0; t < 50; ++t) share.update(std::array<double, 3>{0.1, 0.1, kNone});
  REQUIRE(share.set_asleep(std::array<bool, 3>{false, false, false}));
  CHECK(share.weight(2) == doctest::Approx(0.01));
  for (int t = 0; t < 20; ++t) share.update(std::array<double, 3>{0.1, 0.1, 0.1});
  CHECK(share.weight(2) >= 0.8 * before);
}

TEST_CASE("who wakes and is still wrong does not return") {
  FixedShare share(3, 1.0, kRates, 0.01);
  share.set_asleep(std::array<bool, 3>{false, false, true});
  share.set_asleep(std::array<bool, 3>{false, false, false});
  for (int t = 0; t < 10; ++t) share.update(std::array<double, 3>{0.0, 0.0, 0.9});
  CHECK_FALSE(share.is_returning(2));
  CHECK(share.weight(2) < 0.05);
}

TEST_CASE("a label from a source without a key moves little") {
  FixedShare share(2, 1.0, kRates, 0.01);
  share.update(std::array<double, 2>{0.0, 1.0}, 0.125);
  CHECK(share.weight(0) / share.weight(1) <= std::exp(0.125));
}

TEST_CASE("what is no loss changes nothing") {
  FixedShare share(2, 1.0, kRates, 0.01);
  const auto before = share.state();
  share.update(std::array<double, 2>{0.0, 2.0});
  share.update(std::array<double, 2>{0.0, -0.1});
  share.update(std::array<double, 2>{kNone, 0.3});
  share.update(std::array<double, 2>{0.0, 1.0}, 0.0);
  share.update(std::array<double, 3>{0.0, 1.0, 0.0});
  CHECK(share.state() == before);
}

TEST_CASE("a state goes on bit for bit, and no other is read") {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> any(0.0, 1.0);
  FixedShare share(3, 1.0, kRates, 0.02);
  const auto step = [&](FixedShare& of, double a, double b, double c) {
    of.update(std::array<double, 3>{a, b, c});
  };
  for (int t = 0; t < 100; ++t) step(share, any(random), any(random), any(random));
  share.set_asleep(std::array<bool, 3>{false, true, false});
  share.set_cap(2, 0.3);
  FixedShare again = FixedShare::from_state(share.state());
  for (int t = 0; t < 100; ++t) {
    const double a = any(random);
    const double b = any(random);
    step(share, a, b, a * b);
    step(again, a, b, a * b);
  }
  CHECK(share.state() == again.state());
  auto blob = share.state();
  blob[blob.size() / 2] ^= std::byte{1};
  CHECK_THROWS_AS(FixedShare::from_state(blob), StateError);
}

TEST_CASE("a state of before false labels were told apart goes on, with all of it learned") {
  FixedShare share(2, 1.0, kRates, 0.02);
  for (int t = 0; t < 20; ++t) share.update(std::array<double, 2>{0.2, 0.7});
  const auto blob = share.state();
  // Version 1 ends before the second mixture: a rate's weight and its members', and the doubts.
  const std::size_t added = 8 * (kRates.size() * 3 + 4);
  StateReader now(blob, state_tag("FXSH"), 2);
  StateWriter before(state_tag("FXSH"), 1);
  while (now.remaining() > added) before.u8(now.u8());
  FixedShare again = FixedShare::from_state(std::move(before).finish());
  CHECK(again.state() == blob);
}

TEST_CASE("what may be false moves a weight a little, and further where lies are no reason") {
  FixedShare share(3, 1.0, kRates, 0.01);
  for (int t = 0; t < 200; ++t) {  // each fifth is as if the first were wrong
    const bool lies = t % 5 == 0;
    share.hear(std::array<double, 3>{lies ? 1.0 : 0.0, 0.0, 0.0});
    REQUIRE(std::abs(share.weight(0) - 1.0 / 3) <= 0.05);
  }
  int rounds = 0;
  for (; share.weight(0) >= 0.05; ++rounds) share.hear(std::array<double, 3>{0.9, 0.0, 0.1});
  CHECK(rounds <= 10);
  share.restore(0);
  CHECK(share.weight(0) < 0.1);  // from where it is
  for (int t = 0; t < 20; ++t) share.hear(std::array<double, 3>{0.1, 0.1, 0.1});
  CHECK(share.weight(0) >= 0.8 / 3);
}

TEST_CASE("members change seats, come and go, and take what they have with them") {
  const std::array<double, 2> rates{1.0 / 256, 1.0 / 16};
  FixedShare share(3, 1.0, rates, 0.01);
  for (int n = 0; n < 5; ++n) share.update(std::array<double, 3>{0.1, 0.4, 0.9});
  share.set_cap(2, 0.3);
  const std::array<int, 3> other{2, 0, 1};
  const FixedShare turned = share.seated(other);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(turned.weight(i) == doctest::Approx(share.weight(static_cast<std::size_t>(other[i]))));
  }
  CHECK(turned.cap(0) == 0.3);
  CHECK(turned.rounds() == share.rounds());
  const std::array<int, 4> more{0, 1, 2, -1};
  const FixedShare grown = share.seated(more);
  CHECK(grown.weight(3) == doctest::Approx(0.25));
  CHECK(grown.weight(0) / grown.weight(1) == doctest::Approx(share.weight(0) / share.weight(1)));
  share.set_asleep(std::array<bool, 3>{true, false, false});
  const std::array<int, 1> sleeper{0};
  CHECK_FALSE(share.seated(sleeper).is_asleep(0));  // it alone is left
  const FixedShare slept = share.seated(more);
  CHECK(slept.is_asleep(0));
  CHECK(slept.weight(0) == 0.0);
  CHECK(slept.past(0) == share.past(0));
  CHECK_THROWS_AS(share.seated(std::array<int, 2>{0, 0}), std::invalid_argument);
  CHECK_THROWS_AS(share.seated(std::array<int, 1>{3}), std::invalid_argument);
}

TEST_CASE("arguments are refused by name") {
  CHECK_THROWS_AS(FixedShare(0, 1.0, kRates, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(17, 1.0, kRates, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(2, 0.0, kRates, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(2, kNone, kRates, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(2, 1.0, std::array<double, 1>{0.0}, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(2, 1.0, std::vector<double>{}, 0.01), std::invalid_argument);
  CHECK_THROWS_AS(FixedShare(2, 1.0, kRates, 0.3), std::invalid_argument);
}

TEST_CASE("nothing allocates after construction") {
  FixedShare share(3, 1.0, kRates, 0.01);
  CHECK(allocations_in([&] {
          for (int t = 0; t < 10; ++t) share.update(std::array<double, 3>{0.0, 0.5, 1.0});
          share.set_asleep(std::array<bool, 3>{true, false, false});
          share.set_asleep(std::array<bool, 3>{false, false, false});
          share.set_cap(1, 0.2);
          share.restore(2);
          share.prove(2);
        }) == 0);
}
