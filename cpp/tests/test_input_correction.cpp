#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "counting_new.hpp"
#include "hot_path_model.hpp"
#include "input_correction.hpp"

using namespace selfheal;
using selfheal::runtime::InputCorrection;
using selfheal::testing::GuardedAdder;
using selfheal::testing::random_bytes;

namespace {

constexpr std::size_t kHeader = InputCorrection::kHeaderBytes;

// A table a feature, drawn at random.
void fill(InputCorrection& correction, std::size_t axis, std::size_t seed) {
  const auto content = random_bytes(correction.bytes().size() - kHeader, seed);
  std::copy(content.begin(), content.end(), correction.bytes().begin() + kHeader);
  correction.bytes()[0] = static_cast<std::byte>(1 + axis);
}

}  // namespace

TEST_CASE("every axis counts its own features") {
  const std::vector<std::size_t> shape{3, 4, 5};
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    InputCorrection correction(ElementType::kUint8, shape, kHeader + 256 * shape[axis]);
    CHECK(correction.elements() == 60);
    CHECK_FALSE(correction.is_on());
    fill(correction, axis, axis);
    CHECK(correction.is_on());
    const auto from = random_bytes(60, 9);
    std::vector<std::byte> to(60);
    correction.apply(from.data(), to.data());
    for (std::size_t i = 0; i < 60; ++i) {
      const std::array<std::size_t, 3> place{i / 20, i / 5 % 4, i % 5};
      const std::size_t row = kHeader + 256 * place[axis];
      CHECK(to[i] == correction.bytes()[row + std::to_integer<std::size_t>(from[i])]);
    }
  }
}

TEST_CASE("real numbers take a gain and an offset, each rounded") {
  const std::vector<std::size_t> shape{7, 3};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::size_t features = shape[axis];
    InputCorrection correction(ElementType::kFloat32, shape, kHeader + 8 * features);
    std::vector<float> terms(2 * features);
    for (std::size_t i = 0; i < terms.size(); ++i) terms[i] = 0.3F * static_cast<float>(i) - 1.1F;
    std::memcpy(&correction.bytes()[kHeader], terms.data(), 4 * terms.size());
    correction.bytes()[0] = static_cast<std::byte>(1 + axis);
    std::vector<float> from(21), to(21);
    for (std::size_t i = 0; i < 21; ++i) from[i] = 0.7F * static_cast<float>(i) - 5.0F;
    correction.apply(reinterpret_cast<const std::byte*>(from.data()),
                     reinterpret_cast<std::byte*>(to.data()));
    for (std::size_t i = 0; i < 21; ++i) {
      const std::size_t feature = axis == 0 ? i / 3 : i % 3;
      const float scaled = terms[feature] * from[i];
      CHECK(to[i] == scaled + terms[features + feature]);
    }
  }
}

TEST_CASE("bytes that say what cannot be correct nothing") {
  InputCorrection correction(ElementType::kInt8, {4, 2}, kHeader + 256 * 2);
  const auto from = random_bytes(8, 3);
  for (const int head : {1, 3, 7, 100, 255}) {  // axis 0 has no room; the others are not there
    fill(correction, 0, 5);
    correction.bytes()[0] = static_cast<std::byte>(head);
    std::vector<std::byte> to(8);
    correction.apply(from.data(), to.data());
    CHECK(to == from);
  }
}

TEST_CASE("what is no input is refused") {
  CHECK_THROWS_AS(InputCorrection(ElementType::kInt16, {4}, 1000), std::invalid_argument);
  CHECK_THROWS_AS(InputCorrection(ElementType::kInt8, {}, 1000), std::invalid_argument);
  CHECK_THROWS_AS(InputCorrection(ElementType::kInt8, {1, 0}, 1000), std::invalid_argument);
  CHECK_THROWS_AS(InputCorrection(ElementType::kInt8, std::vector<std::size_t>(9, 1), 1000),
                  std::invalid_argument);
  CHECK_THROWS_AS(InputCorrection(ElementType::kInt8, {4}, kHeader + 255), std::invalid_argument);
}

TEST_CASE("a hot path runs what is corrected, and measures and keeps what came in") {
  constexpr std::size_t kCount = 50;
  GuardedAdder plain, corrected;
  InputCorrection correction(ElementType::kInt8, {GuardedAdder::kSize},
                             kHeader + 256 * GuardedAdder::kSize);
  corrected.path.correct(&correction);
  const auto in = random_bytes(kCount * GuardedAdder::kSize, 4);
  auto expected = in;
  std::vector<std::byte> out(in.size()), golden(in.size());
  corrected.feed(in, out);
  corrected.serve(0, kCount, 0.0);
  CHECK(out == corrected.answers(in));  // all zero bytes: as they come

  fill(correction, 0, 11);
  for (std::size_t n = 0; n < kCount; ++n) {
    correction.apply(&in[n * GuardedAdder::kSize], &expected[n * GuardedAdder::kSize]);
  }
  plain.feed(in, golden);
  plain.serve(0, kCount, 0.0);
  testing::allocations = 0;
  testing::counts = true;
  for (std::size_t n = 0; n < kCount; ++n) {
    corrected.serve(n, n + 1, 0.0);
    corrected.path.again(corrected.job, n);
  }
  testing::counts = false;
  CHECK(testing::allocations == 0);
  CHECK(out == corrected.answers(expected));
  CHECK(out != golden);
  CHECK(corrected.recent_inputs().size() >= plain.recent_inputs().size());
  // What is measured of the last input is what came in.
  CHECK(plain.path.row()[0] == corrected.path.row()[0]);
  corrected.path.correct(nullptr);
  corrected.serve(0, kCount, 0.0);
  CHECK(out == corrected.answers(in));
}

TEST_CASE("memory_bytes is what was allocated") {
  std::unique_ptr<InputCorrection> correction;
  const std::size_t made = testing::bytes_held_by([&] {
    correction =
        std::make_unique<InputCorrection>(ElementType::kInt8, std::vector<std::size_t>{3, 4}, 2000);
  });
  CHECK(correction->memory_bytes() == made);
}
