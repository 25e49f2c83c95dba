#include <doctest/doctest.h>

#include <array>
#include <random>
#include <stdexcept>
#include <vector>

#include "samples.hpp"
#include "selfheal/guard/image_set.hpp"

using namespace selfheal;

namespace {

// One image with all that guards it.
struct One {
  One(std::size_t nbytes, std::uint64_t seed, std::size_t slots)
      : live(testing::random_bytes(nbytes, seed)), pool(image, slots, 4) {}

  std::vector<std::byte> live;
  WeightImage image{live, {}, 64, {5, 6}};
  SnapshotPool pool;
  Parity parity{image, 8, 1};
  ImageGuard guard{image, &pool, &parity, 3};
};

struct Two {
  explicit Two(std::size_t slots = 40, std::size_t fewer = 40)
      : source(64 * 50 - 9, 1, slots), packed(64 * 30, 2, fewer) {}

  std::vector<std::vector<std::byte>> content() const { return {source.live, packed.live}; }
  bool is_sound() {
    std::array<Finding, 9> found{};
    return source.guard.sweep(found) + packed.guard.sweep(found) == 0;
  }
  void change(std::size_t offset) {
    for (One* one : {&source, &packed}) {
      const std::array<std::byte, 1> byte{one->live[offset] ^ std::byte{1}};
      REQUIRE(one->guard.write(offset, byte));
    }
  }

  One source;
  One packed;
  std::array<ImageGuard*, 2> guards{&source.guard, &packed.guard};
  ImageSet set{guards};
};

const std::array<ImageRange, 2> kAll{{{0, 0, ~std::size_t{0}}, {1, 0, ~std::size_t{0}}}};

std::vector<std::byte> inverse(std::span<const std::byte> bytes) {
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  for (std::byte& b : result) b = ~b;
  return result;
}

}  // namespace

TEST_CASE("constructor refuses what cannot be one transaction") {
  Two two;
  One bare(640, 3, 4);
  ImageGuard lean(bare.image, nullptr, nullptr, 1);
  const auto refused = [](std::vector<ImageGuard*> guards, std::size_t most = 8) {
    CHECK_THROWS_AS(ImageSet(guards, most), std::invalid_argument);
  };
  refused({});
  refused({nullptr});
  refused({&two.source.guard, &two.source.guard});
  refused({&two.source.guard, &lean});
  refused({&two.source.guard}, 0);
  refused({&two.source.guard}, (std::size_t{1} << 20) + 1);
  refused(std::vector<ImageGuard*>(9, &two.source.guard));
  two.source.pool.take();
  refused({&two.source.guard, &two.packed.guard});
}

TEST_CASE("without pools everything answers that there are no snapshots") {
  One one(640, 3, 4);
  ImageGuard lean(one.image, nullptr, nullptr, 1);
  const std::array<ImageGuard*, 1> guards{&lean};
  ImageSet set(guards);
  const auto before = one.live;
  const std::array<ImageChange, 1> change{{{0, 0, std::span(before).first(9)}}};
  CHECK(set.take().status == SnapshotStatus::kNoSnapshots);
  CHECK(set.patch(change).status == SnapshotStatus::kNoSnapshots);
  CHECK(set.restore(0, kAll).status == SnapshotStatus::kUnknownGeneration);
  CHECK(set.drop(1) == SnapshotStatus::kNoSnapshots);
  CHECK(set.generations({}) == 0);
  CHECK(one.live == before);
}

TEST_CASE("a patch is a generation of all images, and a way back leads to each") {
  Two two;
  const auto golden = two.content();
  const auto first = inverse(std::span(two.source.live).subspan(100, 300));
  const auto second = inverse(std::span(two.packed.live).subspan(64, 64));
  const auto third = inverse(std::span(two.source.live).subspan(3000, 7));
  const std::array<ImageChange, 3> changes{{{0, 100, first}, {1, 64, second}, {0, 3000, third}}};
  const TakeResult patched = two.set.patch(changes);
  REQUIRE(patched.status == SnapshotStatus::kOk);
  CHECK(patched.generation == 1);
  CHECK(two.set.active() == 1);
  CHECK(two.set.origin(1) == 1);
  auto expected = golden;
  std::copy(first.begin(), first.end(), expected[0].begin() + 100);
  std::copy(third.begin(), third.end(), expected[0].begin() + 3000);
  std::copy(second.begin(), second.end(), expected[1].begin() + 64);
  CHECK(two.content() == expected);
  CHECK(two.is_sound());
  CHECK(two.set.take().generation == 2);  // the same content: it answers like the first
  CHECK(two.set.origin(2) == 1);
  CHECK(two.set.drop(1) == SnapshotStatus::kActive);
  REQUIRE(two.set.restore(0, kAll).refused == 0);
  CHECK(two.set.activate(0) == SnapshotStatus::kOk);
  CHECK(two.content() == golden);
  CHECK(two.set.origin(0) == 0);
  REQUIRE(two.set.restore(2, kAll).refused == 0);
  CHECK(two.content() == expected);
  CHECK(two.set.pin(2) == SnapshotStatus::kOk);
  CHECK(two.set.drop(2) == SnapshotStatus::kPinned);
  CHECK(two.set.unpin(2) == SnapshotStatus::kOk);
  CHECK(two.set.drop(2) == SnapshotStatus::kOk);
  CHECK_FALSE(two.source.pool.contains(2));
  CHECK_FALSE(two.packed.pool.contains(2));
  CHECK(two.set.activate(2) == SnapshotStatus::kUnknownGeneration);
  CHECK(two.is_sound());
}

TEST_CASE("a patch that one image refuses has happened in none, and numbers keep in step") {
  Two two(40, 1);
  const auto golden = two.content();
  const auto bytes = inverse(std::span(two.packed.live).first(200));
  const std::array<ImageChange, 2> wide{{{0, 0, bytes}, {1, 0, bytes}}};
  CHECK(two.set.patch(wide).status == SnapshotStatus::kArenaFull);
  for (int i = 0; i < 2; ++i) {
    CHECK(two.content() == golden);
    CHECK(two.is_sound());
    CHECK(two.set.active() == 0);
    CHECK(two.source.pool.generation_count() == 1);
    CHECK(two.source.pool.free_blocks() == 40);
    // Out of the image, not in order, overlapping, and of an image that is not there.
    const std::span<const std::byte> some = bytes;
    for (const std::array<ImageChange, 2>& bad : std::vector<std::array<ImageChange, 2>>{
             {{{0, 0, bytes}, {1, 64 * 30 - 1, some.first(2)}}},
             {{{0, 64, some.first(2)}, {0, 0, some.first(2)}}},
             {{{0, 0, some.first(9)}, {0, 8, some.first(2)}}},
             {{{0, 0, bytes}, {2, 0, some.first(2)}}},
             {{{1, ~std::size_t{0}, some.first(2)}, {0, 0, bytes}}}}) {
      CHECK(two.set.patch(bad).status == SnapshotStatus::kBadRange);
    }
  }
  const std::array<ImageChange, 2> narrow{
      {{0, 5, std::span(bytes).first(20)}, {1, 5, std::span(bytes).first(20)}}};
  const TakeResult patched = two.set.patch(narrow);
  REQUIRE(patched.status == SnapshotStatus::kOk);
  CHECK(two.source.pool.contains(patched.generation));
  CHECK(two.packed.pool.contains(patched.generation));
  CHECK(two.is_sound());
}

TEST_CASE("a restore that one image refuses has happened in none") {
  Two two;
  const auto golden = two.content();
  const auto bytes = inverse(std::span(two.packed.live).first(200));
  const std::array<ImageChange, 2> changes{{{0, 0, bytes}, {1, 0, bytes}}};
  REQUIRE(two.set.patch(changes).generation == 1);
  const auto patched = two.content();
  two.packed.pool.stored_bytes()[0] ^= std::byte{1};  // golden's copy of a block that was changed
  CHECK(two.set.restore(0, kAll).refused == 1);
  CHECK(two.content() == patched);
  two.packed.pool.stored_bytes()[0] ^= std::byte{1};
  CHECK(two.set.restore(0, kAll).refused == 0);
  CHECK(two.content() == golden);
  CHECK(two.set.restore(7, kAll).status == SnapshotStatus::kUnknownGeneration);
  const std::array<ImageRange, 2> beyond{{{0, 0, 10}, {2, 0, 10}}};
  CHECK(two.set.restore(1, beyond).status == SnapshotStatus::kBadRange);
  CHECK(two.content() == golden);
}

TEST_CASE("damage before a patch is healed or refused, never taken for the change") {
  std::mt19937 engine(4);
  for (int round = 0; round < 300; ++round) {
    Two two;
    const auto golden = two.content();
    const auto bytes = inverse(std::span(two.packed.live).subspan(70, 150));
    const std::array<ImageChange, 2> changes{{{0, 70, bytes}, {1, 70, bytes}}};
    auto expected = golden;
    for (auto& image : expected) std::copy(bytes.begin(), bytes.end(), image.begin() + 70);
    std::vector<std::byte>& hit = round % 2 == 0 ? two.source.live : two.packed.live;
    hit[engine() % hit.size()] ^= std::byte{16};
    const TakeResult patched = two.set.patch(changes);
    std::array<Finding, 9> found{};
    two.source.guard.sweep(found);
    two.packed.guard.sweep(found);
    REQUIRE(two.content() == (patched.status == SnapshotStatus::kOk ? expected : golden));
    if (patched.status != SnapshotStatus::kOk) {
      REQUIRE(patched.status == SnapshotStatus::kCorrupt);
      REQUIRE(two.source.pool.generation_count() == 1);
      REQUIRE(two.packed.pool.generation_count() == 1);
      REQUIRE(two.set.active() == 0);
      REQUIRE(two.set.patch(changes).status == SnapshotStatus::kOk);
      REQUIRE(two.content() == expected);
    }
    REQUIRE(two.is_sound());
  }
}

TEST_CASE("random patches, restores and drops leave what a plain model of them has") {
  std::mt19937 engine(9);
  Two two(200, 200);
  std::vector<std::pair<Generation, std::vector<std::vector<std::byte>>>> model{{0, two.content()}};
  auto expected = two.content();
  for (int step = 0; step < 400; ++step) {
    const std::size_t what = engine() % 3;
    if (what == 0) {
      const auto first = testing::random_bytes(1 + engine() % 200, engine());
      const auto second = testing::random_bytes(1 + engine() % 200, engine());
      const std::size_t a = engine() % (two.source.live.size() - first.size() + 1);
      const std::size_t b = engine() % (two.packed.live.size() - second.size() + 1);
      const std::array<ImageChange, 2> changes{{{0, a, first}, {1, b, second}}};
      const TakeResult patched = two.set.patch(changes);
      if (model.size() == 4) {
        REQUIRE(patched.status == SnapshotStatus::kTooManyGenerations);
      } else {
        REQUIRE(patched.status == SnapshotStatus::kOk);
        std::copy(first.begin(), first.end(), expected[0].begin() + static_cast<std::ptrdiff_t>(a));
        std::copy(second.begin(), second.end(),
                  expected[1].begin() + static_cast<std::ptrdiff_t>(b));
        model.emplace_back(patched.generation, expected);
      }
    } else if (what == 1) {
      const auto& [generation, content] = model[engine() % model.size()];
      REQUIRE(two.set.restore(generation, kAll).refused == 0);
      REQUIRE(two.set.activate(generation) == SnapshotStatus::kOk);
      expected = content;
    } else if (model.size() > 1) {
      const std::size_t place = 1 + engine() % (model.size() - 1);
      const Generation generation = model[place].first;
      const bool is_active = generation == two.set.active();
      REQUIRE(two.set.drop(generation) ==
              (is_active ? SnapshotStatus::kActive : SnapshotStatus::kOk));
      if (!is_active) model.erase(model.begin() + static_cast<std::ptrdiff_t>(place));
    }
    REQUIRE(two.content() == expected);
    std::array<Generation, 4> held{};
    REQUIRE(two.set.generations(held) == model.size());
    for (std::size_t i = 0; i < model.size(); ++i) REQUIRE(held[i] == model[i].first);
  }
  CHECK(two.is_sound());
}

TEST_CASE("a generation comes back under the number that it had") {
  Two two;
  CHECK(two.set.next_generation() == 1);
  CHECK(two.set.take(false, 7).generation == 7);
  CHECK(two.set.next_generation() == 8);
  CHECK(two.set.take(false, 3).generation == 8);  // no number twice
  CHECK(two.source.pool.contains(7));
  CHECK(two.packed.pool.contains(8));
}
