#include <doctest/doctest.h>

#include <cmath>
#include <deque>
#include <random>
#include <stdexcept>

#include "selfheal/base/ring_buffer.hpp"

using namespace selfheal;

TEST_CASE_TEMPLATE("a window of scalars and rows equals a deque", T, float, double) {
  for (const std::size_t width : {1U, 3U}) {
    for (const std::size_t capacity : {1U, 2U, 7U}) {
      RingBuffer<T> buffer(capacity, width);
      std::deque<T> model;
      std::mt19937 engine(1);
      T next = 0;
      for (int round = 0; round < 200; ++round) {
        std::vector<T> rows((engine() % 20) * width);
        for (T& value : rows) value = next++;
        buffer.push_many(rows);
        model.insert(model.end(), rows.begin(), rows.end());
        while (model.size() > capacity * width) model.pop_front();
        const auto spans = buffer.spans();
        std::vector<T> held(spans.older.begin(), spans.older.end());
        held.insert(held.end(), spans.newer.begin(), spans.newer.end());
        REQUIRE(held == std::vector<T>(model.begin(), model.end()));
        REQUIRE(buffer.size() == model.size() / width);
        REQUIRE(buffer.total() == static_cast<std::uint64_t>(next) / width);
        const auto copy = RingBuffer<T>::from_state(buffer.state());
        REQUIRE(copy.state() == buffer.state());
      }
      buffer.clear();
      CHECK(buffer.size() == 0);
      CHECK(buffer.total() == 0);
    }
  }
}

TEST_CASE("constructor refuses") {
  CHECK_THROWS_WITH_AS(RingBuffer<float>(0), "capacity: expected an integer >= 1, got 0",
                       std::invalid_argument);
  CHECK_THROWS_AS(RingBuffer<float>(1, 0), std::invalid_argument);
  CHECK_THROWS_AS(RingBuffer<float>(std::uint64_t{1} << 40, std::uint64_t{1} << 40),
                  std::invalid_argument);
}

TEST_CASE("another precision's state is another type") {
  CHECK_THROWS_AS(RingBuffer<float>::from_state(RingBuffer<double>(3).state()), StateTypeError);
}

TEST_CASE("memory is what it says") {
  CHECK(RingBuffer<float>(10, 4).memory_bytes() == sizeof(RingBuffer<float>) + 160);
}
