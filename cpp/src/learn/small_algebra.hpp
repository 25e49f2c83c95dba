#pragma once

// Sums of products over short rows, as few loads as a compiler needs to make vectors of them.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#if defined(_MSC_VER)
#define SELFHEAL_RESTRICT __restrict
#else
#define SELFHEAL_RESTRICT __restrict__
#endif

namespace selfheal {

inline constexpr std::size_t kTogether = 4;  // rows that are added at a time

inline double dot(const double* a, const double* b, std::size_t n) noexcept {
  // Four sums, for a single one waits for itself.
  double sums[4]{};
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sums[k] += a[i + k] * b[i + k];
  }
  double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

inline void add_scaled(const double* SELFHEAL_RESTRICT from, double factor,
                       double* SELFHEAL_RESTRICT to, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// out (count x n) += the outer product of features and rows (kTogether x n), summed over both.
inline void add_outer(const std::array<const float*, kTogether>& features, std::size_t count,
                      const double* SELFHEAL_RESTRICT rows, std::size_t n,
                      double* SELFHEAL_RESTRICT out) noexcept {
  for (std::size_t j = 0; j < count; ++j) {
    const double a = features[0][j];
    const double b = features[1][j];
    const double c = features[2][j];
    const double d = features[3][j];
    double* const to = out + j * n;
    for (std::size_t k = 0; k < n; ++k) {
      to[k] += (a * rows[k] + b * rows[n + k]) + (c * rows[2 * n + k] + d * rows[3 * n + k]);
    }
  }
}

// Log of the sum of exponentials.
inline double log_sum(const double* z, std::size_t n) noexcept {
  const double most = *std::max_element(z, z + n);
  double sum = 0.0;
  for (std::size_t i = 0; i < n; ++i) sum += std::exp(z[i] - most);
  return most + std::log(sum);
}

}  // namespace selfheal
