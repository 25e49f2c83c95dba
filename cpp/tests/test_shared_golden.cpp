#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "samples.hpp"
#include "selfheal/guard/image_set.hpp"

using namespace selfheal;

namespace {

constexpr std::size_t kBlocks = 40;
constexpr std::size_t kBytes = 64 * kBlocks - 9;

// An image with parity, and a pool that has a full copy of golden, or shares the live blocks.
struct Guarded {
  explicit Guarded(bool copies, std::size_t slots = 30) : pool(image, slots, 5, copies) {}

  std::size_t sweep() { return guard.sweep(found); }
  bool is(Generation generation, const std::vector<std::byte>& content) {
    std::vector<std::byte> read(kBytes);
    return pool.read(generation, read) && read == content;
  }
  bool write(std::size_t offset, std::size_t count, std::uint64_t seed) {
    return guard.write(offset, testing::random_bytes(count, seed));
  }

  std::vector<std::byte> live = testing::random_bytes(kBytes, 1);
  std::vector<std::byte> golden = live;
  WeightImage image{live, {}, 64, {5, 6}};
  SnapshotPool pool;
  Parity parity{image, 16, 1};
  ImageGuard guard{image, &pool, &parity, 11};
  std::array<Finding, 200> found{};
};

}  // namespace

TEST_CASE("without a copy of golden: every bit comes back from parity, and golden is readable") {
  Guarded g(false);
  CHECK(g.pool.memory_bytes() + kBytes < Guarded(true).pool.memory_bytes() + 700);
  for (std::size_t bit = 0; bit < kBytes * 8; bit += 3) {
    g.live[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE_FALSE(g.is(0, g.golden));
    REQUIRE(g.sweep() == 1);
    REQUIRE(g.found[0].source == RepairSource::kParity);
    REQUIRE(g.live == g.golden);
  }
  CHECK(g.is(0, g.golden));
}

TEST_CASE("golden's blocks are kept before another generation changes them, and given back") {
  Guarded g(false);
  std::array<ImageGuard*, 1> guards{&g.guard};
  ImageSet set{guards};
  const std::size_t room = g.pool.free_blocks();
  const auto changed = testing::random_bytes(100, 7);
  const std::array<ImageChange, 1> changes{{{0, 130, changed}}};
  REQUIRE(set.patch(changes).status == SnapshotStatus::kOk);
  CHECK(g.pool.free_blocks() == room - 4);  // two blocks, and golden's two
  const std::vector<std::byte> patched = g.live;
  CHECK(patched != g.golden);
  CHECK(g.is(0, g.golden));
  CHECK(g.is(1, patched));
  const std::array<ImageRange, 1> all{{{0, 0, kBytes}}};
  for (const Generation generation : {0U, 1U, 0U}) {
    REQUIRE(set.restore(generation, all).refused == 0);
    REQUIRE(set.activate(generation) == SnapshotStatus::kOk);
    CHECK(g.live == (generation == 0 ? g.golden : patched));
    CHECK(g.sweep() == 0);
  }
  REQUIRE(set.drop(1) == SnapshotStatus::kOk);
  CHECK(g.pool.free_blocks() == room);
  CHECK(g.is(0, g.golden));
}

TEST_CASE("a change on purpose for which golden has no room is refused, and nothing is lost") {
  Guarded g(false, 3);
  REQUIRE(g.write(0, 192, 2));
  const std::vector<std::byte> before = g.live;
  CHECK_FALSE(g.write(640, 64, 3));
  CHECK(g.live == before);
  REQUIRE(g.write(64, 64, 4));  // golden's block is kept already
  CHECK(g.is(0, g.golden));
  REQUIRE(g.guard.restore(0, 0, kBytes).refused == 0);
  CHECK(g.live == g.golden);
}

TEST_CASE("with and without a copy of golden: the same states, whatever happens") {
  std::mt19937_64 random(5);
  const auto below = [&](std::size_t most) { return static_cast<std::size_t>(random() % most); };
  for (int run = 0; run < 20; ++run) {
    Guarded full(true, 200);
    Guarded lean(false, 240);
    const std::array<Guarded*, 2> both{&full, &lean};
    for (int step = 0; step < 120; ++step) {
      const std::size_t what = below(6);
      const std::size_t offset = below(kBytes);
      const std::size_t count = std::min(below(300), kBytes - offset);
      const std::uint64_t seed = random();
      const Generation generation = below(6);
      std::array<std::size_t, 2> result{};
      for (std::size_t i = 0; i < 2; ++i) {
        Guarded& g = *both[i];
        if (what == 0) result[i] = g.write(offset, count, seed) ? 1 : 0;
        if (what == 1) result[i] = static_cast<std::size_t>(g.pool.take().status);
        if (what == 2) {
          const RestoreResult restored = g.guard.restore(generation, offset, count);
          result[i] = restored.refused + 100 * static_cast<std::size_t>(restored.status);
        }
        if (what == 3) result[i] = static_cast<std::size_t>(g.pool.drop(generation));
        if (what == 4) g.live[offset] ^= std::byte{4};  // and healed at once, or later
        if (what >= 4) result[i] = g.sweep();
      }
      REQUIRE(result[0] == result[1]);
      REQUIRE(full.live == lean.live);
      REQUIRE(full.pool.generation_count() == lean.pool.generation_count());
      REQUIRE(lean.is(0, lean.golden));
      for (Generation held = 1; held < 130; ++held) {
        if (!full.pool.contains(held)) continue;
        std::vector<std::byte> content(kBytes);
        REQUIRE(full.pool.read(held, content));
        REQUIRE(lean.is(held, content));
      }
    }
  }
}

TEST_CASE("every bit of golden's own list, of its blocks and of its seals is found and mended") {
  Guarded g(false);
  REQUIRE(g.write(0, 200, 2));
  REQUIRE(g.pool.take().status == SnapshotStatus::kOk);
  REQUIRE(g.guard.restore(0, 0, kBytes).refused == 0);  // live bytes are golden's: they mend it
  REQUIRE(g.sweep() == 0);
  for (const auto bytes : {g.pool.golden_list_bytes(), g.pool.golden_seals().bytes(),
                           g.pool.stored_bytes().first(256)}) {
    for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 5) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      REQUIRE(g.sweep() == 1);
      REQUIRE(g.found[0].is_healed());
      REQUIRE(g.sweep() == 0);
      REQUIRE(g.is(0, g.golden));
    }
  }
}

TEST_CASE("what neither parity nor a copy brings back comes from outside, if it is genuine") {
  Guarded g(false);
  const std::size_t group = g.parity.groups();
  for (const std::size_t block : {std::size_t{1}, 1 + group}) g.live[block * 64] ^= std::byte{1};
  CHECK(g.sweep() == 2);
  Finding finding;
  const auto block_of = [](const std::vector<std::byte>& bytes, std::size_t block) {
    return std::span(bytes).subspan(block * 64, 64);
  };
  std::vector<std::byte> wrong = g.golden;
  wrong[64] ^= std::byte{2};
  CHECK_FALSE(g.guard.heal_from(1, block_of(wrong, 1), finding));
  CHECK_FALSE(g.guard.heal_from(1, block_of(g.golden, 2), finding));
  REQUIRE(g.guard.heal_from(1, block_of(g.golden, 1), finding));
  CHECK(finding.source == RepairSource::kOutside);
  CHECK(finding.wrong_bits == 1);
  CHECK(g.sweep() == 1);  // the other one, from parity
  CHECK(g.live == g.golden);
}

TEST_CASE("a sweep in parts finds what a whole one finds") {
  Guarded whole(false);
  Guarded parts(false);
  for (std::size_t block = 3; block < kBlocks; block += 2) {
    whole.live[block * 64] ^= std::byte{1};
    parts.live[block * 64] ^= std::byte{1};
  }
  const std::size_t count = whole.sweep();
  std::size_t next = 0;
  std::size_t found = 0;
  do {
    found += parts.guard.sweep(next, std::span(parts.found).first(2));
  } while (next != 0);
  CHECK(found == count);
  CHECK(whole.live == parts.live);
}
