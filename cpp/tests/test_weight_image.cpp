#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <array>

#include "samples.hpp"
#include "selfheal/weight_image.hpp"

using namespace selfheal;

TEST_CASE("constructor refuses") {
  auto live = testing::random_bytes(1000, 1);
  for (const std::size_t bytes : {0U, 32U, 100U, 131072U}) {
    CHECK_THROWS_AS(WeightImage(live, {}, bytes), std::invalid_argument);
  }
  CHECK_THROWS_AS(WeightImage({}, {}), std::invalid_argument);
  CHECK_THROWS_AS(WeightImage(live, {{"a", "m", 900, 101}}), std::invalid_argument);
  CHECK_THROWS_AS(WeightImage(live, {{"a", "m", ~std::size_t{0}, 2}}), std::invalid_argument);
  CHECK_THROWS_AS(WeightImage(live, {{"a", "m", 0, 1}, {"a", "m", 1, 1}}), std::invalid_argument);
}

TEST_CASE("every flipped bit of every byte is found in its block, also in a short last one") {
  for (const std::size_t size : {1U, 63U, 64U, 65U, 300U}) {
    auto live = testing::random_bytes(size, size);
    const WeightImage image(live, {}, 64);
    CHECK(image.block_count() == (size + 63) / 64);
    std::array<std::uint32_t, 8> corrupt{};
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      live[bit / 8] ^= std::byte{1} << (bit % 8);
      REQUIRE(image.check(0, 100, corrupt) == 1);
      REQUIRE(corrupt[0] == bit / 8 / 64);
      live[bit / 8] ^= std::byte{1} << (bit % 8);
    }
    CHECK(image.check(0, 100, corrupt) == 0);
  }
}

TEST_CASE("check counts beyond the room it has, and clips its range") {
  auto live = testing::random_bytes(640, 1);
  const WeightImage image(live, {}, 64);
  for (auto& b : live) b ^= std::byte{1};
  std::array<std::uint32_t, 3> corrupt{};
  CHECK(image.check(0, ~std::size_t{0}, corrupt) == 10);
  CHECK(corrupt == std::array<std::uint32_t, 3>{0, 1, 2});
  CHECK(image.check(8, 100, corrupt) == 2);
  CHECK(image.check(100, 100, corrupt) == 0);
}

TEST_CASE("accept makes a change right, in its range only") {
  auto live = testing::random_bytes(640, 1);
  WeightImage image(live, {}, 64);
  live[0] ^= std::byte{1};
  live[70] ^= std::byte{1};
  CHECK(image.accept(0, 1));
  CHECK(image.table_ok());
  CHECK(image.check_block(0));
  CHECK_FALSE(image.check_block(1));
}

TEST_CASE("a damaged table is noticed and not built upon") {
  auto live = testing::random_bytes(64 * 1000, 1);
  WeightImage image(live, {}, 64);
  image.table_bytes()[5] ^= std::byte{1};
  CHECK_FALSE(image.table_ok());
  CHECK_FALSE(image.accept(0, 1));
}

TEST_CASE("regions and blocks know each other") {
  auto live = testing::random_bytes(640, 1);
  const WeightImage image(
      live, {{"a", "m", 0, 64}, {"b", "m", 63, 2}, {"empty", "m", 64, 0}, {"c", "n", 200, 440}},
      64);
  std::array<std::uint32_t, 4> found{};
  CHECK(image.regions_of_block(0, found) == 2);
  CHECK(image.regions_of_block(1, found) == 1);
  CHECK(found[0] == 1);
  CHECK(image.regions_of_block(2, found) == 0);
  CHECK(image.blocks_of_region(1).first == 0);
  CHECK(image.blocks_of_region(1).count == 2);
  CHECK(image.blocks_of_region(2).count == 0);
  CHECK(image.blocks_of_region(3).first == 3);
  CHECK(image.blocks_of_region(3).count == 7);
}
