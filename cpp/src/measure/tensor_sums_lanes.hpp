#pragma once

// Sums of floats, as plain loops over lanes that every compiler turns into vectors of the
// instruction set of the including source file. Element i always goes to lane i mod kLanes, and
// lanes are added in one order: the results do not depend on the width of a vector.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "measure/tensor_sums.hpp"

namespace selfheal::detail {
namespace {

template <typename T, std::size_t kLanes>
double total(const std::array<T, kLanes>& lanes) noexcept {
  double sum = 0.0;
  for (const T lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

// What passes over floats add up, in lanes: blocks of floats, which are then added to doubles. So a
// vector holds twice as many elements, and a sum is wrong by 1e-6 of itself at most.
constexpr std::size_t kFloatLanes = 8;
constexpr std::size_t kFloatBlock = 16 * kFloatLanes;

// GCC's and Clang's vector types, no wider than the instruction set has: they do not find by
// themselves that lanes which are kept from element to element are vectors.
#ifdef __AVX2__
constexpr std::size_t kFloatWidth = 8;
#else
constexpr std::size_t kFloatWidth = 4;
#endif
using Floats = float __attribute__((vector_size(kFloatWidth * sizeof(float))));
using FloatBits = std::int32_t __attribute__((vector_size(kFloatWidth * sizeof(float))));

struct LaneSum {
  std::array<double, kFloatLanes> total{};
  std::array<Floats, kFloatLanes / kFloatWidth> block{};

  void end_block() noexcept {
    for (std::size_t lane = 0; lane < kFloatLanes; ++lane) {
      total[lane] += static_cast<double>(block[lane / kFloatWidth][lane % kFloatWidth]);
    }
    block = {};
  }
};

inline void load(const float* from, Floats& to) noexcept { __builtin_memcpy(&to, from, sizeof to); }

inline Floats distance_of(const Floats& a, const Floats& b) noexcept {
  // The builtin, as in learn/exact_math.hpp.
  return __builtin_bit_cast(Floats, __builtin_bit_cast(FloatBits, a - b) & 0x7fffffff);
}

// Sums of a pass over an input.
struct InputLanes {
  LaneSum sum;
  LaneSum squares;
  LaneSum rough;
  LaneSum change;

  // Elements from `i` to `end`; kHasNext: each has a neighbour.
  template <bool kHasNext, bool kKeeps>
  void take(std::size_t i, std::size_t end, const float* x, std::size_t step, float pivot,
            const float* previous, float* kept) noexcept {
    const std::size_t whole = i + (end - i) / kFloatLanes * kFloatLanes;
    while (i < whole) {
      for (const std::size_t stop = std::min(whole, i + kFloatBlock); i < stop; i += kFloatLanes) {
        for (std::size_t part = 0; part < kFloatLanes / kFloatWidth; ++part) {
          const std::size_t at = i + part * kFloatWidth;
          Floats value;
          Floats before;
          load(x + at, value);
          load(previous + at, before);
          const Floats offset = value - pivot;
          sum.block[part] += offset;
          squares.block[part] += offset * offset;
          change.block[part] += distance_of(value, before);
          if constexpr (kHasNext) {
            Floats next;
            load(x + at + step, next);
            rough.block[part] += distance_of(next, value);
          }
          if constexpr (kKeeps) __builtin_memcpy(kept + at, &value, sizeof value);
        }
      }
      end_block();
    }
    for (std::size_t lane = 0; i < end; ++i, ++lane) {
      const float offset = x[i] - pivot;
      sum.total[lane] += static_cast<double>(offset);
      squares.total[lane] += static_cast<double>(offset * offset);
      change.total[lane] += static_cast<double>(std::fabs(x[i] - previous[i]));
      if constexpr (kHasNext)
        rough.total[lane] += static_cast<double>(std::fabs(x[i + step] - x[i]));
      if constexpr (kKeeps) kept[i] = x[i];
    }
  }

  void end_block() noexcept {
    sum.end_block();
    squares.end_block();
    rough.end_block();
    change.end_block();
  }
};

inline void sum_floats(const float* x, std::size_t n, std::size_t step, float pivot,
                       const float* previous, float* kept, FloatSums& sums) noexcept {
  // Memory is read once for all four sums.
  InputLanes lanes;
  const std::size_t pairs = step < n ? n - step : 0;
  if (kept != nullptr) {
    lanes.take<true, true>(0, pairs, x, step, pivot, previous, kept);
    lanes.take<false, true>(pairs, n, x, step, pivot, previous, kept);
  } else {
    lanes.take<true, false>(0, pairs, x, step, pivot, previous, kept);
    lanes.take<false, false>(pairs, n, x, step, pivot, previous, kept);
  }
  sums = {total(lanes.sum.total), total(lanes.squares.total), total(lanes.rough.total),
          total(lanes.change.total), 0};
}

inline void float_moments(const float* x, std::size_t n, float pivot, FloatSums& sums) noexcept {
  LaneSum sum;
  LaneSum squares;
  std::array<FloatBits, kFloatLanes / kFloatWidth> above{};
  std::size_t i = 0;
  const std::size_t whole = n - n % kFloatLanes;
  while (i < whole) {
    for (const std::size_t stop = std::min(whole, i + kFloatBlock); i < stop; i += kFloatLanes) {
      for (std::size_t part = 0; part < kFloatLanes / kFloatWidth; ++part) {
        Floats value;
        load(x + i + part * kFloatWidth, value);
        const Floats offset = value - pivot;
        sum.block[part] += offset;
        squares.block[part] += offset * offset;
        above[part] -= value > 0.0F;
      }
    }
    sum.end_block();
    squares.end_block();
  }
  sums = {0.0, 0.0, 0.0, 0.0, 0};
  for (std::size_t lane = 0; i < n; ++i, ++lane) {
    const float offset = x[i] - pivot;
    sum.total[lane] += static_cast<double>(offset);
    squares.total[lane] += static_cast<double>(offset * offset);
    sums.active += x[i] > 0.0F ? 1 : 0;
  }
  for (std::size_t lane = 0; lane < kFloatLanes; ++lane) {
    sums.active += above[lane / kFloatWidth][lane % kFloatWidth];
  }
  sums.sum = total(sum.total);
  sums.squares = total(squares.total);
}

inline double sum_squared_errors(const float* x, const float* other, std::size_t n) noexcept {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sum{};
  const std::size_t whole = n - n % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double error = static_cast<double>(x[i + lane]) - static_cast<double>(other[i + lane]);
      sum[lane] += error * error;
    }
  }
  for (std::size_t i = whole; i < n; ++i) {
    const double error = static_cast<double>(x[i]) - static_cast<double>(other[i]);
    sum[i % kLanes] += error * error;
  }
  return total(sum);
}

template <typename T>
double sum_distance(const T* x, std::size_t n, const float* centroid,
                    const float* precision) noexcept {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> sum{};
  const std::size_t whole = n - n % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float offset = static_cast<float>(x[i + lane]) - centroid[i + lane];
      sum[lane] += precision[i + lane] * (offset * offset);
    }
  }
  for (std::size_t i = whole; i < n; ++i) {
    const float offset = static_cast<float>(x[i]) - centroid[i];
    sum[i % kLanes] += precision[i] * (offset * offset);
  }
  return total(sum);
}

}  // namespace
}  // namespace selfheal::detail
