#pragma once

// Integer sums, one element after the other: for what has no instruction set of its own, and for
// tensors shorter than a vector.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "measure/tensor_sums.hpp"

namespace selfheal::detail {
namespace {

// Narrow enough for vectors, and nothing overflows.
constexpr std::size_t kChunk = 4096;

template <typename T>
inline std::int32_t distance(T a, T b) noexcept {
  return a > b ? a - b : b - a;
}

inline void input8_scalar(const std::uint8_t* x, std::size_t n, std::size_t step, std::uint8_t flip,
                          const std::uint8_t* previous, std::uint8_t* kept,
                          IntegerSums& sums) noexcept {
  for (std::size_t begin = 0; begin < n; begin += kChunk) {
    const std::size_t end = n - begin < kChunk ? n : begin + kChunk;
    const std::size_t pairs_end = step >= n ? begin : (n - step < end ? n - step : end);
    std::uint32_t sum = 0;
    std::uint32_t squares = 0;
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::uint32_t change = 0;
    std::uint32_t rough = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const auto u = static_cast<std::uint8_t>(x[i] ^ flip);
      sum += u;
      squares += static_cast<std::uint32_t>(u) * u;
      low += u == 0 ? 1U : 0U;
      high += u == 255 ? 1U : 0U;
      change += static_cast<std::uint32_t>(distance(u, previous[i]));
      kept[i] = u;
    }
    for (std::size_t i = begin; i < pairs_end; ++i) {
      rough += static_cast<std::uint32_t>(distance<std::uint8_t>(
          static_cast<std::uint8_t>(x[i + step] ^ flip), static_cast<std::uint8_t>(x[i] ^ flip)));
    }
    sums.sum += sum;
    sums.squares += squares;
    sums.low += low;
    sums.high += high;
    sums.change += change;
    sums.roughness += rough;
  }
}

inline void input16_scalar(const std::int16_t* x, std::size_t n, std::size_t step,
                           const std::int16_t* previous, std::int16_t* kept,
                           IntegerSums& sums) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t value = x[i];
    sums.sum += value;
    sums.squares += static_cast<std::int64_t>(value) * value;
    sums.low += value == std::numeric_limits<std::int16_t>::min() ? 1 : 0;
    sums.high += value == std::numeric_limits<std::int16_t>::max() ? 1 : 0;
    sums.change += distance(x[i], previous[i]);
    kept[i] = x[i];
  }
  for (std::size_t i = 0; i + step < n; ++i) sums.roughness += distance(x[i + step], x[i]);
}

inline void output8_scalar(const std::uint8_t* x, std::size_t n, std::uint8_t flip,
                           std::uint8_t level, IntegerSums& sums) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t u = x[i] ^ flip;
    sums.sum += u;
    sums.squares += std::int64_t{u} * u;
    sums.high += u > level ? 1 : 0;
  }
}

inline void output16_scalar(const std::int16_t* x, std::size_t n, std::int16_t level,
                            IntegerSums& sums) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t value = x[i];
    sums.sum += value;
    sums.squares += static_cast<std::int64_t>(value) * value;
    sums.high += value > level ? 1 : 0;
  }
}

inline void pair8_scalar(const std::uint8_t* x, const std::uint8_t* other, std::size_t n,
                         std::uint8_t flip, PairSums& sums) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t u = x[i] ^ flip;
    sums.sum += u;
    sums.squares += std::int64_t{u} * u;
    sums.products += std::int64_t{u} * other[i];
  }
}

}  // namespace
}  // namespace selfheal::detail
