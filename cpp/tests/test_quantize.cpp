#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "selfheal/base/quantize.hpp"

using namespace selfheal;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// One value, slowly: in double, with the library's rounding, after a division in float.
template <typename T>
T level_of(float real, Levels scheme) {
  if (std::isnan(real)) real = 0.0F;
  const double steps = std::nearbyint(static_cast<double>(real / scheme.scale));
  const double level = steps + scheme.zero_point;
  constexpr double kLeast = std::numeric_limits<T>::min();
  constexpr double kMost = std::numeric_limits<T>::max();
  return static_cast<T>(level < kLeast ? kLeast : level > kMost ? kMost : level);
}

template <typename T>
void check(const std::vector<float>& reals, Levels scheme) {
  std::vector<T> levels(reals.size());
  quantize<T>(std::span<const float>(reals), scheme, levels);
  for (std::size_t i = 0; i < reals.size(); ++i) {
    INFO(reals[i] << " / " << scheme.scale << " + " << scheme.zero_point);
    REQUIRE(levels[i] == level_of<T>(reals[i], scheme));
  }
}

template <typename T>
void check_all_levels(Levels scheme) {
  std::vector<T> levels;
  for (int x = std::numeric_limits<T>::min(); x <= std::numeric_limits<T>::max(); ++x) {
    levels.push_back(static_cast<T>(x));
  }
  std::vector<float> reals(levels.size());
  dequantize<T>(std::span<const T>(levels), scheme, reals);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const float expected =
        (static_cast<float>(levels[i]) - static_cast<float>(scheme.zero_point)) * scheme.scale;
    REQUIRE(std::bit_cast<std::uint32_t>(reals[i]) == std::bit_cast<std::uint32_t>(expected));
  }
  std::vector<T> back(levels.size());
  quantize<T>(std::span<const float>(reals), scheme, back);
  REQUIRE(back == levels);
}

const std::array<Levels, 6> kSchemes{{{0.1F, -3},
                                      {1.0F / 256, -128},
                                      {1.0F, 0},
                                      {0.003921569F, 128},
                                      {7.3F, 127},
                                      {4.0F / 32768, 0}}};

}  // namespace

TEST_CASE("halves go to the even neighbour, and what is too far saturates") {
  const std::vector<float> reals{0.5F,  1.5F, 2.5F,  -0.5F,     -1.5F,      -2.5F, 126.5F,
                                 127.F, 1e9F, -1e9F, kInfinity, -kInfinity, 1e38F, kNan};
  std::vector<std::int8_t> levels(reals.size());
  quantize<std::int8_t>(std::span<const float>(reals), {1.0F, 0}, levels);
  const std::vector<std::int8_t> expected{0,   2,   2,    0,   -2,   -2,  126,
                                          127, 127, -128, 127, -128, 127, 0};
  CHECK(levels == expected);
  quantize<std::int8_t>(std::span<const float>(reals), {1.0F, -5}, levels);
  CHECK(levels.back() == -5);
  CHECK(levels[0] == -5);
}

TEST_CASE("any bits of a float give the level that the slow way gives") {
  std::mt19937 engine(3);
  std::vector<float> reals;
  for (int i = 0; i < 200'000; ++i)
    reals.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
  for (const float x : {0.0F, -0.0F, 1e-45F, -1e-45F, 1.17549e-38F, 3.4e38F, -3.4e38F}) {
    reals.push_back(x);
  }
  for (const Levels scheme : kSchemes) {
    check<std::int8_t>(reals, scheme);
    check<std::uint8_t>(reals, scheme);
    check<std::int16_t>(reals, scheme);
  }
  for (const Levels scheme : {Levels{1e-38F, 0}, Levels{1e-45F, 7}, Levels{3e38F, -7}}) {
    check<std::int8_t>(reals, scheme);
    check<std::int16_t>(reals, scheme);
  }
}

TEST_CASE("around every half step of every level") {
  for (const Levels scheme : kSchemes) {
    std::vector<float> reals;
    for (int n = -70'000; n <= 70'000; ++n) {
      const float half = static_cast<float>(n) * 0.5F * scheme.scale;
      reals.insert(reals.end(),
                   {half, std::nextafter(half, kInfinity), std::nextafter(half, -kInfinity)});
    }
    check<std::int8_t>(reals, scheme);
    check<std::uint8_t>(reals, scheme);
    check<std::int16_t>(reals, scheme);
  }
}

TEST_CASE("all levels there and back") {
  for (const Levels scheme : kSchemes) {
    check_all_levels<std::int8_t>(scheme);
    check_all_levels<std::uint8_t>(scheme);
    check_all_levels<std::int16_t>(scheme);
  }
  check_all_levels<std::int16_t>({1e-3F, 1 << 19});
}

TEST_CASE("every length, and nothing beyond it") {
  for (std::size_t count = 0; count < 70; ++count) {
    std::vector<float> reals(count, 3.0F);
    std::vector<std::int8_t> levels(count + 1, 99);
    quantize<std::int8_t>(std::span<const float>(reals), {1.0F, 0}, std::span(levels).first(count));
    for (std::size_t i = 0; i < count; ++i) REQUIRE(levels[i] == 3);
    REQUIRE(levels[count] == 99);
    for (std::size_t at = 0; at < count; ++at) {
      for (const float broken : {kNan, -kNan, kInfinity, -kInfinity}) {
        reals[at] = broken;
        REQUIRE_FALSE(all_finite(reals));
        reals[at] = 3.4e38F;
        REQUIRE(all_finite(reals));
      }
    }
  }
}
