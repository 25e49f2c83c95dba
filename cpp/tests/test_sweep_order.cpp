#include <doctest/doctest.h>

#include <cstdlib>
#include <set>
#include <stdexcept>
#include <vector>

#include "selfheal/guard/sweep_order.hpp"

using namespace selfheal;

TEST_CASE("every item comes exactly once, for every size") {
  for (std::size_t size = 1; size < 700; ++size) {
    const SweepOrder order(size, 17 * size);
    std::vector<bool> seen(size);
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t item = order.at(i);
      REQUIRE(item < size);
      REQUIRE_FALSE(seen[item]);
      seen[item] = true;
    }
  }
}

TEST_CASE("large sizes") {
  constexpr std::size_t kSize = 1 << 20;
  const SweepOrder order(kSize + 3, 5);
  std::vector<bool> seen(kSize + 3);
  std::size_t count = 0;
  for (std::size_t i = 0; i < kSize + 3; ++i) {
    if (!seen[order.at(i)]) ++count;
    seen[order.at(i)] = true;
  }
  CHECK(count == kSize + 3);
  const SweepOrder largest(0xFFFFFFFFU, 5);
  for (std::size_t i = 0; i < 1000; ++i) CHECK(largest.at(i * 4000000) < 0xFFFFFFFFU);
}

TEST_CASE(
    "the order is another one for every seed, and what follows an item is not its neighbour") {
  constexpr std::size_t kSize = 500;
  std::set<std::vector<std::size_t>> orders;
  std::size_t neighbours = 0;
  std::vector<std::size_t> first_items(kSize);
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const SweepOrder order(kSize, seed);
    std::vector<std::size_t> items;
    for (std::size_t i = 0; i < 20; ++i) items.push_back(order.at(i));
    ++first_items[items[0]];
    for (std::size_t i = 1; i < items.size(); ++i) {
      neighbours += std::abs(static_cast<long>(items[i]) - static_cast<long>(items[i - 1])) == 1;
    }
    orders.insert(items);
  }
  CHECK(orders.size() == 2000);
  CHECK(neighbours < 2000 * 19 * 6 / 500);  // by chance 2 in 500
  double chi_squared = 0;
  for (const std::size_t n : first_items) {
    chi_squared += (static_cast<double>(n) - 4) * (static_cast<double>(n) - 4) / 4;
  }
  CHECK(chi_squared < 700);  // 499 degrees of freedom: mean 499, standard deviation 32
}

TEST_CASE("an order of nothing, or of more than it can count, is refused") {
  CHECK_THROWS_AS(SweepOrder(0, 1), std::invalid_argument);
  CHECK_THROWS_AS(SweepOrder(std::uint64_t{1} << 32, 1), std::invalid_argument);
}
