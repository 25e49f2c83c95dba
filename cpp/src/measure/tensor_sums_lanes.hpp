#pragma once

// Sums of floats, as plain loops over lanes that every compiler turns into vectors of the
// instruction set of the including source file. Element i always goes to lane i mod kLanes, and
// lanes are added in one order: the results do not depend on the width of a vector.

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

// What one pass over floats adds up, eight sums each.
struct FloatLanes {
  static constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sum{};
  std::array<double, kLanes> squares{};
  std::array<double, kLanes> rough{};
  std::array<double, kLanes> change{};

  // One element of a lane, compared with its neighbour and with its previous value where there are
  // such.
  template <bool kHasNext, bool kHasPrevious>
  void take(std::size_t lane, const float* x, std::size_t step, double pivot,
            const float* previous) noexcept {
    const auto value = static_cast<double>(*x);
    const double offset = value - pivot;
    sum[lane] += offset;
    squares[lane] += offset * offset;
    if constexpr (kHasNext) rough[lane] += std::fabs(static_cast<double>(x[step]) - value);
    if constexpr (kHasPrevious) change[lane] += std::fabs(value - static_cast<double>(*previous));
  }

  // Elements from `i` to `end`; `i` is a multiple of kLanes.
  template <bool kHasNext, bool kHasPrevious>
  void take_all(std::size_t i, std::size_t end, const float* x, std::size_t step, double pivot,
                const float* previous) noexcept {
    const auto before = [&](std::size_t at) { return kHasPrevious ? previous + at : nullptr; };
    for (; i + kLanes <= end; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        take<kHasNext, kHasPrevious>(lane, x + i + lane, step, pivot, before(i + lane));
      }
    }
    for (; i < end; ++i) {
      take<kHasNext, kHasPrevious>(i % kLanes, x + i, step, pivot, before(i));
    }
  }
};

inline void sum_floats(const float* x, std::size_t n, std::size_t step, double pivot,
                       const float* previous, FloatSums& sums) noexcept {
  FloatLanes lanes;
  if (previous == nullptr) {
    lanes.take_all<false, false>(0, n, x, step, pivot, nullptr);
  } else {
    // Memory is read once for all four sums. Elements of the last, incomplete eight that has a
    // neighbour go one by one, so that what follows begins at a multiple of the lanes.
    const std::size_t pairs = step < n ? n - step : 0;
    const std::size_t whole_pairs = pairs - pairs % FloatLanes::kLanes;
    lanes.take_all<true, true>(0, whole_pairs, x, step, pivot, previous);
    std::size_t i = whole_pairs;
    for (; i < pairs; ++i) {
      lanes.take<true, true>(i % FloatLanes::kLanes, x + i, step, pivot, previous + i);
    }
    for (; i < n && i % FloatLanes::kLanes != 0; ++i) {
      lanes.take<false, true>(i % FloatLanes::kLanes, x + i, step, pivot, previous + i);
    }
    lanes.take_all<false, true>(i, n, x, step, pivot, previous);
  }
  sums = {total(lanes.sum), total(lanes.squares), total(lanes.rough), total(lanes.change)};
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
