#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>

#include "samples.hpp"
#include "selfheal/guard/scrubber.hpp"

using namespace selfheal;

TEST_CASE("a sweep takes ceil(blocks / budget) steps and misses nothing") {
  auto live = testing::random_bytes(64 * 37 + 5, 1);
  const WeightImage image(live, {}, 64);
  std::array<std::uint32_t, 64> corrupt{};
  for (const std::size_t budget : {1U, 64U, 200U, 640U, 1000000U}) {
    for (std::size_t seed = 0; seed < 20; ++seed) {
      Scrubber scrubber(image, seed);
      const std::size_t blocks = std::min<std::size_t>(std::max<std::size_t>(budget / 64, 1), 38);
      const std::size_t bad = seed % 38;
      live[bad * 64] ^= std::byte{0x10};
      std::size_t found = 0;
      for (std::size_t step = 0; step < (38 + blocks - 1) / blocks; ++step) {
        const std::size_t now = scrubber.step(budget, corrupt);
        for (std::size_t i = 0; i < now; ++i) REQUIRE(corrupt[i] == bad);
        found += now;
      }
      CHECK(found >= 1);
      CHECK(scrubber.sweeps() >= 1);
      CHECK(scrubber.blocks_checked() < 38 + blocks);
      live[bad * 64] ^= std::byte{0x10};
    }
  }
}

TEST_CASE("seeds start at different places") {
  auto live = testing::random_bytes(64 * 1000, 1);
  const WeightImage image(live, {}, 64);
  std::set<std::size_t> starts;
  for (std::uint64_t seed = 0; seed < 100; ++seed) starts.insert(Scrubber(image, seed).position());
  CHECK(starts.size() > 80);
}

TEST_CASE("with little room for answers nothing is lost") {
  auto live = testing::random_bytes(64 * 10, 1);
  const WeightImage image(live, {}, 64);
  for (auto& b : live) b ^= std::byte{1};
  Scrubber scrubber(image, 3);
  std::array<std::uint32_t, 3> corrupt{};
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 4; ++i) {
    const std::size_t count = scrubber.step(1 << 20, corrupt);
    seen.insert(corrupt.begin(), corrupt.begin() + static_cast<std::ptrdiff_t>(count));
  }
  CHECK(seen.size() == 10);
}
