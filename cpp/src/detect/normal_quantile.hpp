#pragma once

// The inverse of the normal cdf. Set-up only.

#include <cmath>
#include <numbers>

#include "detect/run_length_detail.hpp"

namespace selfheal {
namespace {

// Inverse normal cdf for 0 < p <= 0.5: Hastings' approximation (Abramowitz and Stegun 26.2.23),
// then Halley steps on the cdf, each of which triples the number of right digits.
inline double lower_normal_quantile(double p) noexcept {
  const double t = std::sqrt(-2.0 * std::log(p));
  double z = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                       (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
  for (int i = 0; i < 3; ++i) {
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::numbers::pi);
    const double step = (normal_cdf(z) - p) / density;
    z -= step / (1.0 + 0.5 * z * step);
  }
  return z;
}

inline double normal_quantile(double p) noexcept {
  if (p == 0.5) return 0.0;
  return p < 0.5 ? lower_normal_quantile(p) : -lower_normal_quantile(1.0 - p);
}

}  // namespace
}  // namespace selfheal
