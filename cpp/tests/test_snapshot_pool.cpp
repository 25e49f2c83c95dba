#include <doctest/doctest.h>

#include <array>
#include <stdexcept>

#include "samples.hpp"
#include "selfheal/guard/snapshot_pool.hpp"

using namespace selfheal;

namespace {

struct Fixture {
  std::vector<std::byte> live = testing::random_bytes(64 * 10 - 7, 1);
  WeightImage image{live, {}, 64};
  SnapshotPool pool{image, 4, 4};
  std::array<std::uint32_t, 10> found{};
  std::size_t count = 0;

  void flip(std::size_t block) { live[block * 64] ^= std::byte{1}; }
  void change(std::size_t block) {
    const std::array<std::byte, 1> byte{live[block * 64] ^ std::byte{1}};
    REQUIRE(image.write(block * 64, byte));
  }
};

}  // namespace

TEST_CASE("constructor refuses sizes out of range and damaged bytes") {
  Fixture f;
  CHECK_THROWS_AS(SnapshotPool(f.image, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(SnapshotPool(f.image, ~std::size_t{0}, 4), std::invalid_argument);
  f.flip(3);
  CHECK_THROWS_AS(SnapshotPool(f.image, 1, 2), std::runtime_error);
}

TEST_CASE_FIXTURE(Fixture, "golden restores any damage, bit for bit, and only where it differs") {
  const auto golden = live;
  flip(0);
  flip(9);
  auto result = pool.restore(0, 1, 9);
  CHECK(result.rewritten == 1);
  CHECK(live != golden);
  result = pool.restore(0, 0, 100);
  CHECK(result.rewritten == 1);
  CHECK(result.refused == 0);
  CHECK(live == golden);
}

TEST_CASE_FIXTURE(Fixture, "a generation stores and restores what differs") {
  const auto golden = live;
  change(2);
  change(9);
  const auto changed = live;
  const auto taken = pool.take();
  CHECK(taken.status == SnapshotStatus::kOk);
  CHECK(taken.generation == 1);
  CHECK(pool.free_blocks() == 2);
  CHECK(pool.changed_blocks(1, found, &count) == SnapshotStatus::kOk);
  CHECK(count == 2);
  CHECK(found[0] == 2);
  CHECK(found[1] == 9);
  pool.restore(0, 0, 100);
  CHECK(live == golden);
  CHECK(pool.restore(1, 0, 100).rewritten == 2);
  CHECK(live == changed);
}

TEST_CASE_FIXTURE(Fixture, "equal blocks are shared, and freed with their last generation") {
  change(1);
  pool.take();
  change(2);
  pool.take();
  CHECK(pool.free_blocks() == 2);
  CHECK(pool.drop(1) == SnapshotStatus::kOk);
  CHECK(pool.free_blocks() == 2);
  CHECK(pool.drop(2) == SnapshotStatus::kOk);
  CHECK(pool.free_blocks() == 4);
  CHECK(pool.take().generation == 3);
}

TEST_CASE_FIXTURE(Fixture, "a full arena stores nothing at all") {
  for (std::size_t i = 0; i < 5; ++i) change(i);
  CHECK(pool.take().status == SnapshotStatus::kArenaFull);
  CHECK(pool.free_blocks() == 4);
  CHECK(pool.generation_count() == 1);
  change(0);
  CHECK(pool.take().generation == 1);
  CHECK(pool.free_blocks() == 0);
}

TEST_CASE_FIXTURE(Fixture, "statuses") {
  CHECK(pool.drop(0) == SnapshotStatus::kGolden);
  CHECK(pool.unpin(0) == SnapshotStatus::kGolden);
  CHECK(pool.drop(7) == SnapshotStatus::kUnknownGeneration);
  CHECK(pool.restore(7, 0, 1).status == SnapshotStatus::kUnknownGeneration);
  CHECK(pool.verify(7, found, &count) == SnapshotStatus::kUnknownGeneration);
  for (int i = 0; i < 3; ++i) CHECK(pool.take().status == SnapshotStatus::kOk);
  CHECK(pool.take().status == SnapshotStatus::kTooManyGenerations);
  CHECK(pool.pin(2) == SnapshotStatus::kOk);
  CHECK(pool.is_pinned(2));
  CHECK(pool.drop(2) == SnapshotStatus::kPinned);
  CHECK(pool.unpin(2) == SnapshotStatus::kOk);
  CHECK(pool.drop(2) == SnapshotStatus::kOk);
  CHECK_FALSE(pool.contains(2));
  std::array<Generation, 4> list{};
  CHECK(pool.generations(list) == 3);
  CHECK(list[1] == 1);
  CHECK(list[2] == 3);
}

TEST_CASE_FIXTURE(Fixture, "a damaged copy is refused and the live bytes stay") {
  change(1);
  pool.take();
  pool.stored_bytes()[64 * 4 + 3] ^= std::byte{4};   // golden's block 4
  pool.stored_bytes()[64 * 10 + 9] ^= std::byte{4};  // the slot of generation 1's block 1
  CHECK(pool.verify(0, found, &count) == SnapshotStatus::kOk);
  CHECK(count == 1);
  CHECK(found[0] == 4);
  pool.verify(1, found, &count);
  CHECK(count == 2);
  flip(1);
  flip(4);
  flip(5);
  const auto before = live;
  const auto result = pool.restore(1, 0, 5, found);
  CHECK(result.refused == 2);
  CHECK(found[0] == 1);
  CHECK(found[1] == 4);
  CHECK(result.rewritten == 0);
  CHECK(live == before);
  CHECK(pool.restore(1, 5, 1).rewritten == 1);
}

TEST_CASE_FIXTURE(Fixture, "everything is in memory_bytes") {
  const std::size_t bytes = pool.memory_bytes();
  CHECK(bytes >= 14 * 64 + 4 * 10 * 4);
  change(1);
  pool.take();
  CHECK(pool.memory_bytes() == bytes);
}

TEST_CASE_FIXTURE(Fixture, "corrupt blocks are not stored") {
  flip(3);
  CHECK(pool.take().status == SnapshotStatus::kCorrupt);
  CHECK(pool.free_blocks() == 4);
  CHECK(pool.generation_count() == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "after going to a generation the image expects it, not what lies there") {
  change(2);
  pool.take();
  pool.restore(0, 0, 100);
  CHECK(image.check(0, 100, found) == 0);
  flip(2);  // the live bytes are now those of generation 1, and wrong
  CHECK(image.check(0, 100, found) == 1);
  pool.restore(1, 0, 100);
  CHECK(image.check(0, 100, found) == 0);
  flip(2);
  CHECK(image.check(0, 100, found) == 1);
}

TEST_CASE_FIXTURE(Fixture, "a list of blocks comes back from its copy; golden has none") {
  const auto golden = live;
  change(2);
  pool.take();
  const std::vector<std::byte> lists(pool.list_bytes().begin(), pool.list_bytes().end());
  const std::size_t list = 10 * 4;      // bytes
  const std::size_t copies = 3 * list;  // where the second ones begin
  const auto flip_list = [&](std::size_t bit) {
    pool.list_bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  };
  for (std::size_t bit = 0; bit < list * 8; ++bit) {
    for (const std::size_t begin : {std::size_t{0}, copies}) {
      flip_list(begin * 8 + bit);
      REQUIRE(pool.restore(0, 0, 100).refused == 0);
      REQUIRE(live == golden);
      REQUIRE(pool.restore(1, 0, 100).refused == 0);
      bool is_changed = false;
      std::size_t place = 0;
      REQUIRE(pool.mend_list(0, &place, &is_changed));
      REQUIRE(place == 1);
      REQUIRE(std::equal(lists.begin(), lists.end(), pool.list_bytes().begin()));
      pool.restore(0, 0, 100);
    }
    // Both copies of generation 1's: it is refused, and stays so; golden is not.
    flip_list(bit);
    flip_list(copies * 8 + (bit + 1) % (list * 8));
    bool is_changed = false;
    std::size_t place = 0;
    REQUIRE_FALSE(pool.mend_list(0, &place, &is_changed));
    REQUIRE(pool.restore(1, 0, 100).refused == 10);
    REQUIRE(pool.restore(0, 0, 100).refused == 0);
    flip_list(bit);
    flip_list(copies * 8 + (bit + 1) % (list * 8));
  }
  CHECK(pool.restore(1, 0, 100).rewritten == 1);
}

TEST_CASE("whatever is damaged in the slots' records, a saved block is never given away") {
  for (std::size_t bit = 0; bit < 4 * 24 * 8; ++bit) {
    Fixture f;
    f.change(1);
    REQUIRE(f.pool.take().generation == 1);
    f.change(2);
    REQUIRE(f.pool.take().generation == 2);  // shares block 1
    const auto second = f.live;
    f.pool.slot_records()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE(f.pool.drop(1) == SnapshotStatus::kOk);
    for (const std::size_t block : {3U, 4U}) f.change(block);
    const auto third = f.live;
    const TakeResult taken = f.pool.take();  // there is room for two
    bool is_changed = false;
    std::size_t block = 0;
    for (std::size_t slot = 0; slot < 4; ++slot) f.pool.mend_slot(slot, &block, &is_changed);
    REQUIRE(f.pool.restore(2, 0, 100).refused == 0);
    REQUIRE(f.live == second);
    if (taken.status == SnapshotStatus::kArenaFull) continue;  // damage hides what could be shared
    REQUIRE(taken.generation == 3);
    REQUIRE(f.pool.restore(3, 0, 100).refused == 0);
    REQUIRE(f.live == third);
  }
}

TEST_CASE_FIXTURE(Fixture, "a number may be asked for, so that several pools keep in step") {
  CHECK(pool.take(5).generation == 5);
  CHECK(pool.next_generation() == 6);
  CHECK(pool.take(5).generation == 6);
}

TEST_CASE_FIXTURE(Fixture, "golden is renewed from verified bytes where live is something else") {
  const auto golden = live;
  change(4);
  pool.take();
  bool is_changed = false;
  pool.stored_bytes()[64 * 4 + 1] ^= std::byte{1};
  const auto hashes = pool.golden_seals().bytes();
  hashes[8 * 7] ^= std::byte{1};  // and both hashes of block 7
  hashes[hashes.size() / 2 + 8 * 7] ^= std::byte{1};
  REQUIRE_FALSE(pool.mend_golden(4, &is_changed));
  CHECK(pool.restore(0, 0, 100).refused == 2);
  CHECK(pool.renew_golden(golden) == 2);
  CHECK(pool.renew_golden(golden) == 0);
  CHECK(pool.restore(0, 0, 100).refused == 0);
  CHECK(live == golden);
}

TEST_CASE_FIXTURE(Fixture, "golden's copy is mended from live bytes that have its hash") {
  bool is_changed = true;
  CHECK(pool.mend_golden(4, &is_changed));
  CHECK_FALSE(is_changed);
  for (std::size_t bit = 0; bit < 64 * 8; ++bit) {
    pool.stored_bytes()[64 * 4 + bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE(pool.mend_golden(4, &is_changed));
    REQUIRE(is_changed);
    REQUIRE(pool.stored_bytes()[64 * 4 + bit / 8] == live[64 * 4 + bit / 8]);
  }
  for (std::size_t bit = 0; bit < pool.golden_seals().bytes().size() * 8; ++bit) {
    pool.golden_seals().bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE(pool.mend_golden(bit / 64 % image.block_count(), &is_changed));
    REQUIRE(is_changed);
  }
  pool.stored_bytes()[64 * 4] ^= std::byte{1};
  flip(4);  // equal damage to both
  CHECK_FALSE(pool.mend_golden(4, &is_changed));
}
