#pragma once

// The exponent with which a CUSUM's run length grows. Set-up only.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace selfheal {

struct Step {
  double value;
  double weight;
};

/// theta > 0 with log E exp(theta v) + excess(theta) = 0 over steps v; 0 if the steps do not fall
/// on average, infinity if none rises. `excess` >= 0 rises from excess(0) = 0.
template <typename Excess>
double lundberg(std::span<const Step> steps, Excess&& excess) {
  double mean = 0.0;
  double top = 0.0;
  for (const Step& step : steps) {
    mean += step.weight * step.value;
    if (step.weight > 0.0) top = std::max(top, step.value);
  }
  if (!(mean < 0.0)) return 0.0;
  if (!(top > 0.0)) return std::numeric_limits<double>::infinity();
  const auto growth = [&](double theta) {
    double sum = 0.0;
    for (const Step& step : steps) sum += step.weight * std::exp(theta * (step.value - top));
    return std::log(sum) + theta * top + excess(theta);
  };
  double high = 1e-3;
  while (growth(high) < 0.0 && high < 1e6) high *= 2.0;
  double low = 0.5 * high;
  while (low > 1e-9 && growth(low) > 0.0) low *= 0.5;
  if (!(low > 1e-9)) return 0.0;
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    (growth(middle) < 0.0 ? low : high) = middle;
  }
  return high;
}

inline double lundberg(std::span<const Step> steps) {
  return lundberg(steps, [](double) { return 0.0; });
}

}  // namespace selfheal
