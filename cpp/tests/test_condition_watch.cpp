#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "condition_watch.hpp"
#include "counting_new.hpp"
#include "hot_path_model.hpp"

using namespace selfheal;
using runtime::ConditionWatch;
using runtime::HotPath;
using selfheal::testing::GuardedAdder;
using selfheal::testing::random_bytes;

namespace {

constexpr std::size_t kSize = GuardedAdder::kSize;

// Inputs of levels about 0 are those of the condition that is served, those about 40 the other's.
std::shared_ptr<const ConditionGate> gate() {
  ConditionGate::Rival rival;
  rival.direction = {1.0, 0.0, 0.0};
  rival.mean = {40.0, 5.0, 5.0};
  rival.spread = {4.0, 5.0, 5.0};
  rival.centre = 20.0;
  rival.examples = 64;
  return std::make_shared<ConditionGate>(3, std::vector{rival}, 8.0);
}

ConditionWatch watch() {
  return {ChannelNumbers({{kSize}, -1, {0}}, {}), gate(), ElementType::kInt8, 1};
}

std::vector<std::byte> inputs(std::size_t count, int level) {
  std::vector<std::byte> bytes = random_bytes(count * kSize, static_cast<unsigned>(level + 9));
  for (std::byte& one : bytes) {
    one = static_cast<std::byte>(level + static_cast<int>(std::to_integer<unsigned>(one) % 9U) - 4);
  }
  return bytes;
}

}  // namespace

TEST_CASE("numbers of one plane") {
  ChannelNumbers numbers({{2, 3}, -1, {0, 1}}, {0.5, 1});
  REQUIRE(numbers.size() == 3);
  const std::vector<std::int8_t> raw{1, 3, 5, 1, 5, 9};  // 0 1 2, 0 2 4
  std::vector<double> found(3);
  numbers.measure(raw.data(), ElementType::kInt8, found);
  CHECK(found[0] == doctest::Approx(1.5));
  CHECK(found[1] == doctest::Approx(std::sqrt((2.25 + .25 + .25 + 2.25 + .25 + 6.25) / 6)));
  CHECK(found[2] == doctest::Approx(((0 + 1 + 2) / 3.0 + (1 + 1 + 2 + 2) / 4.0) / 2));
}

TEST_CASE("a watch says at each input what its latest inputs say") {
  ConditionWatch one = watch();
  const auto near = inputs(500, 0), far = inputs(20, 40);
  for (std::size_t i = 0; i < 500; ++i) {
    one.take(&near[i * kSize]);
    REQUIRE(one.to() == -1);
  }
  std::size_t needed = 0;
  while (one.to() < 0 && needed < 20) one.take(&far[kSize * needed++]);
  CHECK(needed == 3);  // each says 3 of the 8 that it takes
  one.reset();
  CHECK(one.to() == -1);
  for (std::size_t i = 0; i < 2; ++i) one.take(&far[i * kSize]);
  CHECK(one.to() == -1);
  one.take(&far[2 * kSize]);
  CHECK(one.to() == 0);
  CHECK_THROWS_AS(
      ConditionWatch(ChannelNumbers({{kSize}, 0, {}}, {}), gate(), ElementType::kInt8, 1),
      std::invalid_argument);
}

TEST_CASE("an inference whose input has come elsewhere stops, from the number that is asked for") {
  GuardedAdder model;
  ConditionWatch one = watch();
  model.path.watch(&one);
  auto in = inputs(10, 0);
  const auto far = inputs(30, 40);
  in.insert(in.end(), far.begin(), far.end());
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  CHECK(model.serve(0, 20, 0.0).next == 20);
  model.path.passages_from = 25;
  const HotPath::Progress progress = model.serve(20, 40, 0.0);
  CHECK(progress.next == 25);
  CHECK(progress.up == runtime::kDue);
  one.reset();
  CHECK(model.serve(25, 40, 0.0).next == 28);
  model.path.watch(nullptr);
  CHECK(model.serve(28, 40, 0.0).next == 40);
}

TEST_CASE("a watch allocates nothing while it looks") {
  ConditionWatch one = watch();
  const auto far = inputs(200, 40);
  CHECK(selfheal::testing::allocations_in([&] {
          for (std::size_t i = 0; i < 200; ++i) one.take(&far[i * kSize]);
        }) == 0);
  CHECK(one.memory_bytes() > sizeof one);
}
