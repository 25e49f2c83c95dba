#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

#include "samples.hpp"
#include "selfheal/base/gf256.hpp"
#include "selfheal/guard/parity.hpp"

using namespace selfheal;

namespace {

// Schoolbook: shift, add, reduce.
std::uint8_t slow_multiply(unsigned a, unsigned b) {
  unsigned product = 0;
  for (unsigned bit = 0; bit < 8; ++bit) {
    if (((b >> bit) & 1U) != 0) product ^= a << bit;
  }
  for (unsigned bit = 15; bit >= 8; --bit) {
    if (((product >> bit) & 1U) != 0) product ^= 0x11DU << (bit - 8);
  }
  return static_cast<std::uint8_t>(product);
}

}  // namespace

TEST_CASE("the field's arithmetic equals the schoolbook's") {
  std::vector<std::byte> all(256 + 37);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
  for (unsigned a = 0; a < 256; ++a) {
    if (a != 0) {
      const auto x = static_cast<std::uint8_t>(a);
      CHECK(gf256::multiply(x, gf256::inverse(x)) == 1);
    }
    std::vector<std::byte> sum(all.size(), std::byte{0x5A});
    gf256::multiply_add(sum, static_cast<std::uint8_t>(a), all);
    for (unsigned b = 0; b < all.size(); ++b) {
      const std::uint8_t expected = slow_multiply(a, b & 0xFFU);
      REQUIRE(gf256::multiply(static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b)) ==
              expected);
      REQUIRE(sum[b] == static_cast<std::byte>(expected ^ 0x5A));
    }
  }
}

TEST_CASE("constructor") {
  auto live = testing::random_bytes(64 * 40 - 7, 1);
  const WeightImage image(live, {}, 64);
  CHECK_THROWS_AS(Parity(image, 0, 1), std::invalid_argument);
  CHECK_THROWS_AS(Parity(image, 129, 1), std::invalid_argument);
  CHECK_THROWS_AS(Parity(image, 16, 0), std::invalid_argument);
  CHECK_THROWS_AS(Parity(image, 16, 17), std::invalid_argument);
  const Parity parity(image);
  CHECK(parity.groups() == 3);
  CHECK(parity.count() == 3);
  live[0] ^= std::byte{1};
  CHECK_THROWS_AS(Parity(image, 16, 1), std::runtime_error);
}

TEST_CASE("any pattern of as many damaged blocks as promised comes back, and never more") {
  std::mt19937 engine(3);
  for (const std::size_t parity_blocks : {1U, 2U, 3U, 5U, 16U}) {
    for (const std::size_t group_blocks : {1U, 4U, 16U, 128U}) {
      auto live = testing::random_bytes(64 * 133 - 7, parity_blocks);
      const auto golden = live;
      const WeightImage image(live, {}, 64, {1, 2});
      Parity parity(image, group_blocks, parity_blocks);
      for (int round = 0; round < 20; ++round) {
        const std::size_t group = engine() % parity.groups();
        std::vector<std::size_t> members;
        for (std::size_t i = group; i < 133; i += parity.groups()) members.push_back(i);
        std::shuffle(members.begin(), members.end(), engine);
        const std::size_t damaged = std::min<std::size_t>(parity_blocks, members.size());
        for (std::size_t i = 0; i < damaged; ++i)
          live[members[i] * 64 + engine() % 50] ^= std::byte{7};
        std::vector<std::byte> content(64);
        for (std::size_t i = 0; i < damaged; ++i) {
          const auto block = image.block(members[i]);
          REQUIRE(parity.reconstruct(members[i], std::span(content).first(block.size())));
          REQUIRE(std::equal(block.begin(), block.end(), content.begin()) == false);
        }
        if (members.size() > parity_blocks) {
          live[members[parity_blocks] * 64] ^= std::byte{1};
          REQUIRE_FALSE(parity.reconstruct(
              members[0], std::span(content).first(image.block(members[0]).size())));
        }
        live = golden;
      }
    }
  }
}

TEST_CASE("damaged parity counts against what can be repaired, and is mended") {
  auto live = testing::random_bytes(64 * 64, 1);
  const auto golden = live;
  const WeightImage image(live, {}, 64, {1, 2});
  Parity parity(image, 16, 3);
  const auto stored = std::vector(parity.stored_bytes().begin(), parity.stored_bytes().end());
  parity.stored_bytes()[5] ^= std::byte{1};  // parity row 0 of group 0
  CHECK(parity.look(0) == BlockState::kCorrupt);
  live[0] ^= std::byte{1};
  live[4 * 64] ^= std::byte{2};
  std::vector<std::byte> content(64);
  CHECK(parity.reconstruct(0, content));
  CHECK(std::equal(content.begin(), content.end(), golden.begin()));
  CHECK_FALSE(parity.mend(0));  // data blocks of its group are damaged
  live = golden;
  CHECK(parity.mend(0));
  CHECK(std::equal(stored.begin(), stored.end(), parity.stored_bytes().begin()));
  for (std::size_t bit = 0; bit < parity.seals().bytes().size() * 8; ++bit) {
    parity.seals().bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const std::size_t number = bit / 64 % parity.count();
    REQUIRE(parity.look(number) == BlockState::kTableDamaged);
    REQUIRE(parity.mend(number));
    REQUIRE(parity.look(number) == BlockState::kSound);
  }
}
