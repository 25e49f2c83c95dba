#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "samples.hpp"
#include "selfheal/guard/weight_image.hpp"

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

TEST_CASE("write makes a change right, to the byte, and refuses to build upon damage") {
  auto live = testing::random_bytes(640, 1);
  WeightImage image(live, {}, 64, {3, 4});
  const auto bytes = testing::random_bytes(100, 2);
  auto expected = live;
  std::copy(bytes.begin(), bytes.end(), expected.begin() + 60);
  CHECK(image.write(60, bytes));
  CHECK(live == expected);
  CHECK(image.check(0, 100, {}) == 0);
  live[0] ^= std::byte{1};  // in block 0, of which the write takes a part
  CHECK_FALSE(image.write(60, bytes));
  CHECK_FALSE(image.check_block(0));
  CHECK(image.write(0, std::span(expected).first(64)));  // the whole block: nothing is built upon
  CHECK(image.check_block(0));
  CHECK(live == expected);
}

TEST_CASE("every bit of the table: not taken for damaged content, and mended") {
  auto live = testing::random_bytes(64 * 8, 1);
  WeightImage image(live, {}, 64, {3, 4});
  const auto table = image.table().bytes();
  CHECK(image.are_sound(0, 8));
  for (std::size_t bit = 0; bit < table.size() * 8; ++bit) {
    const std::size_t block = bit / 64 % 8;
    table[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE_FALSE(image.table_ok());
    REQUIRE_FALSE(image.are_sound(0, 8));
    REQUIRE(image.check(0, 100, {}) == 0);
    REQUIRE(image.look(block) == BlockState::kTableDamaged);
    live[block * 64] ^= std::byte{1};
    REQUIRE_FALSE(image.mend(block));
    live[block * 64] ^= std::byte{1};
    REQUIRE(image.mend(block));
    REQUIRE(image.table_ok());
  }
}

TEST_CASE("it follows its content to another place, and nothing else") {
  auto live = testing::random_bytes(640, 1);
  auto moved = live;
  WeightImage image(live, {}, 64, {3, 4});
  moved[3] ^= std::byte{1};
  CHECK_FALSE(image.rebind(moved));
  CHECK_FALSE(image.rebind(std::span(moved).first(639)));
  CHECK(image.live().data() == live.data());
  moved[3] ^= std::byte{1};
  CHECK(image.rebind(moved));
  CHECK(image.live().data() == moved.data());
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
