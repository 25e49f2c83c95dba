#include "selfheal/guard/sweep_order.hpp"

#include <string>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

// splitmix64 (Steele, Lea and Flood, 2014).
std::uint64_t next(std::uint64_t& state) noexcept {
  state += 0x9E3779B97F4A7C15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// A number below `range` that depends on every bit of x and on the round's secret.
std::uint32_t mix(std::uint32_t x, std::uint32_t add, std::uint32_t multiply,
                  std::uint32_t range) noexcept {
  x = (x + add) * multiply;
  x = (x ^ (x >> 15)) * 0x2C1B3C6DU;
  x ^= x >> 16;
  return static_cast<std::uint32_t>((std::uint64_t{x} * range) >> 32);
}

std::uint32_t add_below(std::uint32_t a, std::uint32_t b, std::uint32_t range) noexcept {
  const std::uint64_t sum = std::uint64_t{a} + b;
  return static_cast<std::uint32_t>(sum >= range ? sum - range : sum);
}

}  // namespace

SweepOrder::SweepOrder(std::uint64_t size, std::uint64_t seed)
    : size_(static_cast<std::uint32_t>(size)), rounds_{} {
  if (size < 1 || size > 0xFFFFFFFFU) {
    refuse("size", "1 to 4294967295 items in one round", std::to_string(size));
  }
  while (std::uint64_t{rows_} * rows_ < size_) ++rows_;
  columns_ = (size_ - 1) / rows_ + 1;
  for (Round& round : rounds_) {
    const std::uint64_t word = next(seed);
    round = {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32) | 1U};
  }
}

std::size_t SweepOrder::at(std::size_t position) const noexcept {
  auto x = static_cast<std::uint32_t>(position);
  do {
    std::uint32_t row = x / columns_;
    std::uint32_t column = x % columns_;
    for (std::size_t i = 0; i < rounds_.size(); i += 2) {
      const Round& a = rounds_[i];
      const Round& b = rounds_[i + 1];
      row = add_below(row, mix(column, a.add, a.multiply, rows_), rows_);
      column = add_below(column, mix(row, b.add, b.multiply, columns_), columns_);
    }
    x = row * columns_ + column;
  } while (x >= size_);  // the grid has few cells too many, and each cycle comes back into range
  return x;
}

}  // namespace selfheal
