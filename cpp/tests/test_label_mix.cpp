#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "counting_new.hpp"
#include "selfheal/detect/label_mix.hpp"

using namespace selfheal;
using testing::allocations_in;
using testing::bytes_held_by;

namespace {

std::vector<std::int64_t> even(std::size_t count, std::uint64_t seed, std::int64_t classes) {
  std::mt19937_64 engine(seed);
  std::vector<std::int64_t> labels(count);
  for (std::int64_t& label : labels) {
    label = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(classes));
  }
  return labels;
}

}  // namespace

TEST_CASE("nothing in the loop allocates, nor does what an alarm asks for") {
  const LabelReference reference(even(2000, 1, 10), 10);
  LabelMix mix(reference, 1e5, true);
  const auto stream = even(5000, 2, 10);
  std::size_t told = 0;
  CHECK(allocations_in([&] {
          for (const std::int64_t label : stream) told += mix.update(label) ? 1U : 0U;
          for (int n = 0; n < 500; ++n) {
            told += mix.update(n % 10 == 0 ? -1 : 3) ? 1U : 0U;
            if (mix.drift_detected()) told += mix.change().label == 3 ? 1U : 0U;
            told += mix.is_latched() && mix.looks_normal() ? 0U : 1U;
          }
          mix.accept();
          mix.restart();
          mix.reset();
        }) == 0);
  CHECK(told > 1);
}

TEST_CASE("a chart of labels says how many bytes it holds, and holds no more for many classes") {
  for (const std::int64_t classes : {2, 10, 1001}) {
    const LabelReference reference(even(3000, 3, classes), static_cast<std::size_t>(classes));
    std::unique_ptr<LabelMix> mix;
    LabelReference held = reference;
    const std::size_t bytes =
        bytes_held_by([&] { mix = std::make_unique<LabelMix>(std::move(held), 1e5); });
    CHECK(mix->memory_bytes() >= bytes);
    CHECK(mix->memory_bytes() < 16 * 1024);
  }
}

TEST_CASE("a class beyond those of calibration is one of the rest, where there is one") {
  const LabelReference many(even(9000, 4, 64), 64);
  REQUIRE(many.events().size() <= LabelReference::kMostEvents);
  LabelMix mix(many, 1e4);
  bool is_told = false;
  for (int n = 0; n < 2000 && !is_told; ++n) is_told = mix.update(100000);
  CHECK(is_told);
  LabelMix few(LabelReference(even(900, 4, 4), 4), 1e4);
  for (int n = 0; n < 2000; ++n) CHECK_FALSE(few.update(4));
}

TEST_CASE("an interval that no chart can have is refused") {
  const LabelReference reference(even(900, 4, 4), 4);
  CHECK_THROWS_AS(LabelMix(reference, 9.0), std::invalid_argument);
  CHECK_THROWS_AS(LabelMix(reference, 1e16), std::invalid_argument);
}
