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

inline void sum_floats(const float* x, std::size_t n, std::size_t step, double pivot,
                       const float* previous, FloatSums& sums) noexcept {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sum{};
  std::array<double, kLanes> squares{};
  std::array<double, kLanes> rough{};
  std::array<double, kLanes> change{};
  const std::size_t whole = n - n % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double offset = static_cast<double>(x[i + lane]) - pivot;
      sum[lane] += offset;
      squares[lane] += offset * offset;
    }
  }
  for (std::size_t i = whole; i < n; ++i) {
    const double offset = static_cast<double>(x[i]) - pivot;
    sum[i % kLanes] += offset;
    squares[i % kLanes] += offset * offset;
  }
  if (previous != nullptr) {
    const std::size_t pairs = step < n ? n - step : 0;
    const std::size_t whole_pairs = pairs - pairs % kLanes;
    const float* const next = x + step;
    for (std::size_t i = 0; i < whole_pairs; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        rough[lane] +=
            std::fabs(static_cast<double>(next[i + lane]) - static_cast<double>(x[i + lane]));
      }
    }
    for (std::size_t i = whole_pairs; i < pairs; ++i) {
      rough[i % kLanes] += std::fabs(static_cast<double>(next[i]) - static_cast<double>(x[i]));
    }
    for (std::size_t i = 0; i < whole; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        change[lane] +=
            std::fabs(static_cast<double>(x[i + lane]) - static_cast<double>(previous[i + lane]));
      }
    }
    for (std::size_t i = whole; i < n; ++i) {
      change[i % kLanes] += std::fabs(static_cast<double>(x[i]) - static_cast<double>(previous[i]));
    }
  }
  sums = {total(sum), total(squares), total(rough), total(change)};
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
