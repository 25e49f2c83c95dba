#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

#include "samples.hpp"
#include "selfheal/guard/image_guard.hpp"

using namespace selfheal;

namespace {

constexpr std::size_t kBlocks = 70;
constexpr std::size_t kBytes = 64 * kBlocks - 9;

// An image with both, one or none of the sources of repair.
struct Guarded {
  explicit Guarded(bool has_pool = true, std::size_t parity_blocks = 2) {
    if (has_pool) pool.emplace(image, 30, 4);
    if (parity_blocks != 0) parity.emplace(image, 16, parity_blocks);
    guard.emplace(image, pool ? &*pool : nullptr, parity ? &*parity : nullptr, 11);
  }

  void flip(std::size_t bit) { live[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8)); }
  std::size_t sweep_live() { return guard->step(guard->live_blocks() * 64, 0, found); }
  std::size_t sweep_behind() { return guard->step(0, guard->blocks_behind() * 64, found); }

  std::vector<std::byte> live = testing::random_bytes(kBytes, 1);
  std::vector<std::byte> golden = live;
  WeightImage image{live, {}, 64, {5, 6}};
  std::optional<SnapshotPool> pool;
  std::optional<Parity> parity;
  std::optional<ImageGuard> guard;
  std::array<Finding, 300> found{};
};

}  // namespace

TEST_CASE("every single bit: found in one sweep, named, healed, from either source") {
  for (const bool has_pool : {true, false}) {
    Guarded g(has_pool, has_pool ? 0 : 1);
    for (std::size_t bit = 0; bit < kBytes * 8; bit += has_pool ? 1 : 3) {
      g.flip(bit);
      REQUIRE(g.sweep_live() == 1);
      const Finding& finding = g.found[0];
      REQUIRE(finding.part == DamagedPart::kLive);
      REQUIRE(finding.source == (has_pool ? RepairSource::kSnapshot : RepairSource::kParity));
      REQUIRE(finding.block == bit / 8 / 64);
      REQUIRE(finding.wrong_bits == 1);
      REQUIRE(finding.flip_count == 1);
      REQUIRE(finding.flips[0].offset == bit / 8 % 64);
      REQUIRE(finding.flips[0].mask == 1 << (bit % 8));
      REQUIRE(g.live == g.golden);
    }
  }
}

TEST_CASE("every bit of the tables, the key and the parity is found in one sweep and mended") {
  Guarded g;
  const std::vector<std::byte> parity(g.parity->stored_bytes().begin(),
                                      g.parity->stored_bytes().end());
  const auto try_all = [&](std::span<std::byte> bytes, DamagedPart part, bool is_behind) {
    const std::vector<std::byte> before(bytes.begin(), bytes.end());
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      REQUIRE((is_behind ? g.sweep_behind() : g.sweep_live()) == 1);
      REQUIRE(g.found[0].part == part);
      REQUIRE(g.found[0].is_healed());
      REQUIRE(std::equal(before.begin(), before.end(), bytes.begin()));
    }
  };
  try_all(g.image.table().bytes(), DamagedPart::kTable, false);
  try_all(g.image.kept_key().copies(), DamagedPart::kKey, true);
  try_all(g.image.kept_key().schedule(), DamagedPart::kKey, true);
  try_all(g.parity->stored_bytes().first(640), DamagedPart::kParity, true);
  try_all(g.parity->seals().bytes(), DamagedPart::kParity, true);
  try_all(g.pool->stored_bytes().first(640), DamagedPart::kSnapshot, true);
  CHECK(g.live == g.golden);
}

TEST_CASE("a row is not done where its key took the only place for what is found") {
  Guarded g(true, 0);
  g.image.kept_key().schedule()[40] ^= std::byte{4};
  for (std::size_t block = 0; block < kBlocks; ++block) g.flip(block * 64 * 8);
  const auto one = std::span(g.found).first(1);
  REQUIRE(g.guard->step(16 * 64, 0, one) == 1);  // as much as a row
  CHECK(g.found[0].part == DamagedPart::kKey);
  REQUIRE(g.guard->step(0, 0, one) == 1);  // nothing is due beside what was not done
  CHECK(g.found[0].part == DamagedPart::kLive);
}

TEST_CASE("a damaged schedule of the key is no damage to live bytes, and mended by their sweep") {
  Guarded g(true, 0);
  g.image.kept_key().schedule()[40] ^= std::byte{4};  // a word that every block is hashed with
  const std::vector<std::byte> before(g.live);
  REQUIRE(g.sweep_live() == 1);
  CHECK(g.found[0].part == DamagedPart::kKey);
  CHECK(g.image.table_ok());
  CHECK(g.live == before);
}

TEST_CASE(
    "the schedule is compared with the key's once in so many bytes, also where all is right") {
  for (const bool verifies : {false, true}) {
    Guarded g(true, 0);
    const auto schedule = g.image.kept_key().schedule();
    schedule[schedule.size() - 1] ^=
        std::byte{1};  // of longer messages: no block is hashed with it
    std::size_t steps = 0;
    std::size_t count = 0;
    while (count == 0 && steps < 4000) {
      count = verifies ? g.guard->verify(true, g.found) : g.sweep_live();
      ++steps;
    }
    CHECK(count == 1);
    CHECK(g.found[0].part == DamagedPart::kKey);
    CHECK(steps * kBlocks * 64 >= std::size_t{4} << 20);
    CHECK(steps * kBlocks * 64 < std::size_t{5} << 20);
  }
}

TEST_CASE("every bit of another generation's copies is found in one sweep behind and mended") {
  Guarded g;
  const std::size_t arena = kBlocks * 64;
  for (const std::size_t block : {2U, 9U, 69U}) {
    const std::array<std::byte, 1> byte{g.live[block * 64] ^ std::byte{1}};
    REQUIRE(g.guard->write(block * 64, byte));
  }
  REQUIRE(g.pool->take().generation == 1);
  REQUIRE(g.pool->take().generation == 2);  // shares them
  CHECK(g.sweep_behind() == 0);
  const auto try_all = [&](std::span<std::byte> bytes, std::size_t step) {
    const std::vector<std::byte> before(bytes.begin(), bytes.end());
    std::size_t found = 0;
    for (std::size_t bit = 0; bit < bytes.size() * 8; bit += step) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      const std::size_t count = g.sweep_behind();
      found += count;
      REQUIRE(count <= 1);
      if (count == 0) {  // a byte that means nothing
        bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
        continue;
      }
      REQUIRE(g.found[0].part == DamagedPart::kSnapshot);
      REQUIRE(g.found[0].is_healed());
      REQUIRE(std::equal(before.begin(), before.end(), bytes.begin()));
    }
    return found;
  };
  CHECK(try_all(g.pool->stored_bytes().subspan(arena, 128), 1) == 128 * 8);
  CHECK(try_all(g.pool->stored_bytes().subspan(arena + 128, 64), 1) == 55 * 8);  // the last block
  CHECK(try_all(g.pool->stored_bytes().subspan(arena + 192, 64), 1) == 0);       // not in use
  // Both hashes and both numbers of blocks of three slots, and of the free ones.
  CHECK(try_all(g.pool->slot_records(), 1) == 30 * 24 * 8);
  // Lists of two generations, twice; places that hold no generation mean nothing.
  const auto lists = g.pool->list_bytes();
  const std::vector<std::byte> before(lists.begin(), lists.end());
  const std::size_t list_bytes = 4 * kBlocks;
  for (std::size_t bit = 0; bit < lists.size() * 8; bit += 7) {
    const std::size_t place = 1 + bit / 8 / list_bytes % 3;
    lists[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE(g.sweep_behind() == (place < 3));
    if (place == 3) {
      lists[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      continue;
    }
    REQUIRE(g.found[0].part == DamagedPart::kList);
    REQUIRE(g.found[0].block == place);
    REQUIRE(g.found[0].is_healed());
    REQUIRE(std::equal(before.begin(), before.end(), lists.begin()));
  }
  // Their numbers, pins and hashes, each kept twice: two generations of three.
  for (const auto bytes : {g.pool->lists().entry_bytes(), g.pool->lists().hash_bytes()}) {
    const std::vector<std::byte> right(bytes.begin(), bytes.end());
    std::size_t found = 0;
    for (std::size_t bit = 0; bit < bytes.size() / 3 * 2 * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      const std::size_t count = g.sweep_behind();
      REQUIRE(count <= 1);
      found += count;
      REQUIRE(g.pool->contains(1));
      REQUIRE(g.pool->contains(2));
      if (count == 0) bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));  // means nothing
      if (std::equal(right.begin(), right.end(), bytes.begin())) continue;
      REQUIRE(g.pool->is_pinned(1 + bit / 8 / (bytes.size() / 3)));  // in doubt nothing is dropped
      std::copy(right.begin(), right.end(), bytes.begin());
    }
    CHECK(found >= 2 * 16 * 8);
  }
  // A copy that the live bytes are not, since the image is at golden: found, named, not healed.
  REQUIRE(g.guard->restore(0, 0, kBytes).refused == 0);
  CHECK(g.live == g.golden);
  g.pool->stored_bytes()[arena + 64] ^= std::byte{1};  // now it is golden's block, which is wrong
  CHECK(g.sweep_behind() == 1);
  CHECK(g.found[0].part == DamagedPart::kSnapshot);
  CHECK(g.found[0].block == 9);
  CHECK_FALSE(g.found[0].is_healed());
  CHECK(g.guard->restore(1, 0, kBytes).refused == 1);
  CHECK(g.live == g.golden);
}

TEST_CASE("damage to a block and to everything that speaks for it") {
  Guarded g;
  g.flip(64 * 8 * 5 + 3);                              // block 5
  g.image.table().bytes()[5 * 8] ^= std::byte{1};      // its hash, first entry
  g.pool->stored_bytes()[64 * 5 + 9] ^= std::byte{1};  // and golden's copy: parity is left
  CHECK(g.sweep_live() == 1);
  CHECK(g.found[0].source == RepairSource::kParity);
  CHECK(g.live == g.golden);
  CHECK(g.image.table_ok());
  CHECK(g.sweep_behind() == 1);
  CHECK(g.found[0].part == DamagedPart::kSnapshot);
  CHECK(g.found[0].is_healed());
}

TEST_CASE("what cannot be healed is reported and left alone, every sweep") {
  Guarded g(false, 1);
  const std::size_t groups = g.parity->groups();
  g.flip(1);
  g.flip(groups * 64 * 8);
  const auto damaged = g.live;
  for (int i = 0; i < 3; ++i) {
    CHECK(g.sweep_live() == 2);
    CHECK_FALSE(g.found[0].is_healed());
    CHECK_FALSE(g.found[1].is_healed());
    CHECK(g.live == damaged);
  }
  g.flip(1);
  CHECK(g.sweep_live() == 1);
  CHECK(g.live == g.golden);
}

TEST_CASE("a burst of as many blocks as the layout promises heals from parity alone") {
  Guarded g(false, 2);
  const std::size_t burst = g.parity->groups() * 2;
  for (std::size_t first = 0; first + burst <= kBlocks; ++first) {
    const std::size_t end = std::min((first + burst) * 64, kBytes);
    std::fill(g.live.begin() + static_cast<std::ptrdiff_t>(first * 64),
              g.live.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
    REQUIRE(g.sweep_live() == burst);
    REQUIRE(g.live == g.golden);
  }
}

TEST_CASE("budgets: leftovers count, a sweep is never late, small room loses nothing") {
  Guarded g;
  const std::size_t round = g.guard->live_blocks() * 64;
  for (const std::size_t budget : {1U, 20U, 64U, 100U, 1000U, 100000U}) {
    const std::size_t steps = (round + budget - 1) / budget;
    g.flip(kBytes * 8 - budget % 512 - 1);
    std::size_t found = 0;
    for (std::size_t i = 0; i <= steps; ++i) {
      found += g.guard->step(budget, 0, std::span(g.found).first(1));
    }
    CHECK(found == 1);
    CHECK(g.live == g.golden);
  }
  for (auto& b : g.live) b ^= std::byte{1};
  std::size_t healed = 0;
  for (std::size_t i = 0; i < kBlocks + 1; ++i) {
    healed += g.guard->step(round, 0, std::span(g.found).first(1));
  }
  CHECK(healed == kBlocks);
  CHECK(g.live == g.golden);
}

TEST_CASE("restore is exact to the byte, and image and parity follow") {
  std::mt19937 engine(4);
  Guarded g;
  const auto other = testing::random_bytes(1500, 9);
  REQUIRE(g.guard->write(700, other));
  const auto changed = g.live;
  REQUIRE(g.pool->take().status == SnapshotStatus::kOk);
  auto expected = g.live;
  for (int i = 0; i < 200; ++i) {
    const Generation generation = engine() % 2;
    const std::size_t offset = engine() % kBytes;
    const std::size_t nbytes = engine() % (kBytes - offset + 1);
    if (i % 3 == 0) g.flip(engine() % (kBytes * 8));
    const auto result = g.guard->restore(generation, offset, nbytes);
    REQUIRE(result.status == SnapshotStatus::kOk);
    if (result.refused != 0) continue;  // a mixed block was damaged, and only parity has it
    const auto& from = generation == 0 ? g.golden : changed;
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(offset), nbytes,
                expected.begin() + static_cast<std::ptrdiff_t>(offset));
    g.guard->sweep(g.found);
    REQUIRE(g.live == expected);
    REQUIRE(g.image.check(0, kBlocks, {}) == 0);
    for (std::size_t number = 0; number < g.parity->count(); ++number) {
      REQUIRE(g.parity->look(number) == BlockState::kSound);
    }
  }
  CHECK(g.guard->restore(9, 0, 10).status == SnapshotStatus::kUnknownGeneration);
}

TEST_CASE("a damaged snapshot is refused wholly") {
  Guarded g(true, 0);
  REQUIRE(g.guard->write(0, testing::random_bytes(640, 9)));
  const auto changed = g.live;
  g.pool->stored_bytes()[64 * 5] ^= std::byte{1};
  CHECK(g.guard->restore(0, 0, kBytes).refused == 1);
  CHECK(g.live == changed);
}

TEST_CASE("random damage of every kind at once never makes anything worse") {
  std::mt19937 engine(8);
  std::size_t lost = 0;
  for (int round = 0; round < 300; ++round) {
    Guarded g(round % 3 != 0, static_cast<std::size_t>(round % 4));
    const std::size_t flips = 1 + engine() % 40;
    for (std::size_t i = 0; i < flips; ++i) {
      std::span<std::byte> target = g.live;
      if (engine() % 2 == 0) target = g.image.table().bytes();
      if (g.parity && engine() % 4 == 0) target = g.parity->stored_bytes();
      if (g.pool && engine() % 4 == 0) target = g.pool->stored_bytes();
      target[engine() % target.size()] ^= static_cast<std::byte>(1U << (engine() % 8));
    }
    g.guard->sweep(g.found);
    g.guard->sweep(g.found);
    for (std::size_t block = 0; block < kBlocks; ++block) {
      const auto live = g.image.block(block);
      const bool is_right = std::equal(live.begin(), live.end(),
                                       g.golden.begin() + static_cast<std::ptrdiff_t>(block * 64));
      // What cannot be told (every keyed entry of a block lost) is called corrupt, never sound.
      if (g.image.check_block(block)) REQUIRE(is_right);
      if (!g.image.check_block(block)) ++lost;
    }
  }
  CHECK(lost < 300 * kBlocks / 20);
}

TEST_CASE("both entries of a block are lost: golden's copy proves the content") {
  Guarded g;
  const auto table = g.image.table().bytes();
  table[5 * 8] ^= std::byte{1};
  table[table.size() / 2 + 5 * 8] ^= std::byte{2};
  CHECK(g.sweep_live() == 1);
  CHECK(g.found[0].part == DamagedPart::kTable);
  CHECK(g.found[0].is_healed());
  CHECK(g.live == g.golden);
  CHECK(g.image.table_ok());
  table[5 * 8] ^= std::byte{1};  // and with the content: a rollback of the whole heals that
  table[table.size() / 2 + 5 * 8] ^= std::byte{2};
  g.flip(5 * 64 * 8);
  CHECK(g.sweep_live() == 1);
  CHECK_FALSE(g.found[0].is_healed());
  CHECK(g.guard->restore(0, 0, kBytes).refused == 0);
  CHECK(g.live == g.golden);
  CHECK(g.sweep_live() == 0);
}

TEST_CASE("without a pool no generation is held, and no block is beyond the image") {
  for (const std::size_t parity_blocks : {0U, 2U}) {
    Guarded g(false, parity_blocks);
    const auto before = g.live;
    for (const Generation generation : {0U, 1U}) {
      const auto result = g.guard->restore(generation, 0, kBytes);
      CHECK(result.status == SnapshotStatus::kUnknownGeneration);
      CHECK(result.rewritten + result.refused == 0);
    }
    Finding finding;
    CHECK_FALSE(g.guard->heal(kBlocks, finding));
    CHECK_FALSE(g.guard->heal(~std::size_t{0}, finding));
    const std::array<std::byte, 2> bytes{};
    CHECK_FALSE(g.guard->write(kBytes - 1, bytes));
    CHECK_FALSE(g.guard->write(~std::size_t{0}, bytes));
    CHECK(g.guard->write(kBytes, {}));
    CHECK(g.guard->step(kBytes, kBytes, {}) == 0);
    CHECK(g.guard->sweep({}) == 0);
    CHECK(g.live == before);
  }
}

TEST_CASE("a pool or a parity of another image is refused at construction") {
  Guarded g;
  Guarded other;
  CHECK_THROWS_AS(ImageGuard(g.image, &*other.pool, nullptr, 1), std::invalid_argument);
  CHECK_THROWS_AS(ImageGuard(g.image, nullptr, &*other.parity, 1), std::invalid_argument);
}

TEST_CASE(
    "chosen flips in what the key is expanded to: found, mended, and nothing sealed by them") {
  Guarded g;
  const std::vector<std::byte> before(g.image.kept_key().schedule().begin(),
                                      g.image.kept_key().schedule().end());
  for (std::size_t bit = 0; bit < before.size() * 8 - 64; bit += 97) {
    testing::flip_keeping_crc(g.image.kept_key().schedule(), bit);
    CHECK_FALSE(g.image.table_ok());
    if (bit % 2 == 0) {  // what is written meanwhile is sealed by the right key
      const std::array<std::byte, 1> byte{g.live[bit % kBytes] ^ std::byte{1}};
      REQUIRE(g.guard->write(bit % kBytes, byte));
      g.golden = g.live;
    }
    REQUIRE(g.sweep_behind() == 1);
    REQUIRE(g.found[0].part == DamagedPart::kKey);
    REQUIRE(g.found[0].is_healed());
    REQUIRE(g.live == g.golden);
    const auto now = g.image.kept_key().schedule();
    REQUIRE(std::equal(before.begin(), before.end(), now.begin()));
  }
  CHECK(g.sweep_behind() == 0);
}

TEST_CASE("chosen flips in a generation's list are found in one sweep behind and mended") {
  Guarded g;
  const std::array<std::byte, 1> byte{g.live[640] ^ std::byte{1}};
  REQUIRE(g.guard->write(640, byte));
  REQUIRE(g.pool->take().generation == 1);
  const auto lists = g.pool->list_bytes();
  const std::vector<std::byte> before(lists.begin(), lists.end());
  // Where the one slot in use is listed for the first time.
  const auto first = std::find_if(before.begin(), before.end(),
                                  [](std::byte value) { return value != std::byte{0xFF}; });
  const std::size_t size = 4 * kBlocks;
  const std::size_t begin = static_cast<std::size_t>(first - before.begin()) / size * size;
  for (std::size_t bit = 0; bit + 64 < size * 8; bit += 41) {
    testing::flip_keeping_crc(lists.subspan(begin, size), bit);
    REQUIRE(g.sweep_behind() == 1);
    REQUIRE(g.found[0].part == DamagedPart::kList);
    REQUIRE(g.found[0].is_healed());
    REQUIRE(std::equal(before.begin(), before.end(), lists.begin()));
  }
}

TEST_CASE("a sweep behind and a rollback cost no more with eight generations than with one") {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kSize = std::size_t{1} << 20;
  std::vector<std::byte> live(kSize);
  for (std::size_t i = 0; i < kSize; ++i) live[i] = static_cast<std::byte>(i * i >> 7);
  WeightImage image(live, {}, 512, {1, 2});
  SnapshotPool pool(image, 512, 9);
  ImageGuard guard(image, &pool, nullptr, 3);
  std::array<Finding, 4> found{};
  const auto fastest = [&](auto work) {
    auto best = Clock::duration::max();
    for (int i = 0; i < 15; ++i) {  // other work on the machine only ever adds to one of them
      const auto start = Clock::now();
      work();
      best = std::min(best, Clock::now() - start);
    }
    return best;
  };
  const auto sweep = [&] { REQUIRE(guard.step(0, guard.blocks_behind() * 512, found) == 0); };
  const auto take = [&](std::size_t number) {
    for (std::size_t block = number; block < 400; block += 8) {
      const std::array<std::byte, 1> byte{live[block * 512] ^ std::byte{1}};
      REQUIRE(guard.write(block * 512, byte));
    }
    REQUIRE(pool.take().generation == number);
  };
  take(1);
  const auto one = fastest(sweep);
  for (std::size_t number = 2; number <= 8; ++number) take(number);
  const auto eight = fastest(sweep);
  CHECK(eight < 3 * one);
  const auto restore = [&](Generation generation) {
    const auto start = Clock::now();
    REQUIRE(guard.restore(generation, 0, kSize).refused == 0);
    return Clock::now() - start;
  };
  for (Generation generation = 1; generation <= 8; ++generation) {
    auto golden = Clock::duration::max();
    auto own = golden;
    for (int i = 0; i < 15 || (i < 60 && own >= 2 * golden); ++i) {  // in turns, on a busy machine
      golden = std::min(golden, restore(0));
      own = std::min(own, restore(generation));
    }
    CHECK(own < 2 * golden);
  }
}
