#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "samples.hpp"
#include "selfheal/base/moments.hpp"
#include "selfheal/base/ring_buffer.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/image_set.hpp"
#include "selfheal/guard/sweep_pacer.hpp"
#include "selfheal/measure/signal_pass.hpp"

/// Sizes that 32 bits do not hold, on machines whose addresses have 32 bits and on others.

using namespace selfheal;

namespace {

constexpr std::uint64_t kTurn = std::uint64_t{1} << 32;  // of a 32-bit counter
constexpr bool kIs32 = sizeof(std::size_t) == 4;

}  // namespace

TEST_CASE("a size is refused where it does not fit, never cut to what does") {
  CHECK_THROWS_WITH_AS(RingBuffer<float>(kTurn + 5),
                       ("capacity: expected capacity * width <= " +
                        std::to_string(RingBuffer<float>::kMaxValues) + ", got 4294967301")
                           .c_str(),
                       std::invalid_argument);
  CHECK_THROWS_AS(RingBuffer<double>(5, kTurn + 1), std::invalid_argument);
  CHECK_THROWS_AS(Moments(kTurn + 5), std::invalid_argument);

  auto live = testing::random_bytes(64 * 40, 1);
  CHECK_THROWS_AS(WeightImage(live, {}, kTurn + 64), std::invalid_argument);
  WeightImage image(live, {}, 64);
  CHECK_THROWS_AS(Parity(image, kTurn + 16, 1), std::invalid_argument);
  CHECK_THROWS_AS(Parity(image, 16, kTurn + 1), std::invalid_argument);
  CHECK_THROWS_AS(SnapshotPool(image, kTurn, 2), std::invalid_argument);
  CHECK_THROWS_AS(SnapshotPool(image, 0, kTurn + 2), std::invalid_argument);
  ImageGuard guard(image, nullptr, nullptr, 1);
  const std::array<ImageGuard*, 1> guards{&guard};
  CHECK_THROWS_AS(ImageSet(guards, kTurn + 1), std::invalid_argument);
}

TEST_CASE("what 32-bit machines cannot address is refused by name") {
  if (!kIs32) return;  // here it would be had
  constexpr std::uint64_t kValues = std::uint64_t{1} << 28;
  CHECK_THROWS_AS(RingBuffer<double>{kValues}, std::invalid_argument);
  auto live = testing::random_bytes(64 * 40, 1);
  WeightImage image(live, {}, 64);
  CHECK_THROWS_AS(SnapshotPool(image, kTurn / 64, 2), std::invalid_argument);
  SignalPlan plan;
  for (const ElementType type : {ElementType::kInt8, ElementType::kInt16, ElementType::kFloat32}) {
    const std::size_t bytes = type == ElementType::kInt8 ? 1 : type == ElementType::kInt16 ? 2 : 4;
    // All of the addresses: the product with an element's bytes is 2^31 or 0.
    const auto elements = static_cast<std::size_t>(bytes == 1 ? kTurn / 2 : kTurn / bytes);
    plan.inputs = {TensorLayout{type, elements, 1, {}}};
    CHECK_THROWS_AS(SignalPass{plan}, std::invalid_argument);
  }
}

TEST_CASE("centroids are counted in 64 bits") {
  constexpr std::size_t kClasses = 65536;
  SignalPlan plan;
  plan.outputs = {TensorLayout{ElementType::kInt8, kClasses, 1, {}}};
  plan.classifier = OutputKind::kLogits;
  plan.classes = kClasses;
  plan.embedding = TensorLayout{ElementType::kInt8, kClasses + 1, 1, {}};
  plan.centroids.assign(kClasses, 1.0F);  // of kClasses * (kClasses + 1), what 32 bits show
  plan.precision.assign(kClasses + 1, 1.0F);
  CHECK_THROWS_AS(SignalPass{plan}, std::invalid_argument);
}

TEST_CASE("what a sweep owes while it is put off is counted in 64 bits") {
  SweepPacer pacer(kTurn / 2, 0.0, 1.0);
  for (int n = 0; n < 3; ++n) CHECK(pacer.tick(0.0, 512));
  CHECK(pacer.due(0) == kTurn / 2 * 3);
  SweepPacer timed(0, 1.0, 1.0);
  timed.tick(1.0, 512);
  timed.tick(1.5, 512);
  CHECK(timed.due(3 * kTurn) == 3 * kTurn / 2);
}

TEST_CASE("the parity of an image beyond 17 MB keeps pace with the sweep") {
  auto live = testing::random_bytes(std::size_t{20} << 20, 1);
  WeightImage image(live, {});
  Parity parity(image);
  ImageGuard guard(image, nullptr, &parity, 1);
  REQUIRE(std::uint64_t{live.size()} * parity.count() > kTurn);
  std::vector<Finding> found(parity.count() + 1);
  for (std::size_t i = 0; i < parity.count(); ++i) {
    parity.stored_bytes()[i * image.block_bytes()] ^= std::byte{1};
  }
  REQUIRE(guard.step(0, std::uint64_t{guard.blocks_behind()} * image.block_bytes(), found) ==
          parity.count());
  for (std::size_t i = 0; i < parity.count(); ++i) REQUIRE(found[i].is_healed());
}

TEST_CASE("a round behind the live bytes may have more bytes than 32 bits count") {
  // Lists are cheap, and each of their pieces counts as a block.
  constexpr std::size_t kBlockBytes = 65536;
  constexpr std::size_t kPlaces = SnapshotPool::kMaxGenerations;
  std::vector<std::byte> live(kBlockBytes * (GenerationLists::kChunk * 15 + 1));
  WeightImage image(live, {}, kBlockBytes);
  SnapshotPool pool(image, 0, kPlaces);
  ImageGuard guard(image, &pool, nullptr, 1);
  REQUIRE(std::uint64_t{guard.blocks_behind()} * kBlockBytes > kTurn);
  std::array<Finding, 8> found{};
  CHECK(guard.step(0, std::numeric_limits<std::uint64_t>::max(), found) == 0);
  CHECK(guard.sweeps_behind() == 1);
}
