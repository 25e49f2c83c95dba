#include "detect/share_bounds.hpp"

#include <algorithm>
#include <cmath>

namespace selfheal::detail {
namespace {

constexpr double kMany = 200.0;  // of which a normal approximation is good enough

double wilson(double count, double samples, double z) noexcept {
  const double z2 = z * z / samples;
  const double p = count / samples;
  const double root = std::sqrt(p * (1.0 - p) / samples + 0.25 * z2 / samples);
  return (p + 0.5 * z2 + z * root) / (1.0 + z2);
}

// P(X <= count) of a binomial distribution.
double at_most(double count, double samples, double p) noexcept {
  double term = samples * std::log1p(-p);  // log of the probability to see 0, 1, 2 ...
  double sum = std::exp(term);
  for (double k = 1.0; k <= count; k += 1.0) {
    term += std::log((samples - k + 1.0) / k) + std::log(p) - std::log1p(-p);
    sum += std::exp(term);
  }
  return sum;
}

}  // namespace

double largest_share(double count, double samples, double doubt, double doubt_z) noexcept {
  const double seen = std::ceil(count - 1e-9);
  if (!(seen < samples)) return 1.0;
  if (seen > kMany) return wilson(seen, samples, doubt_z);
  double low = seen / samples;
  double high = 1.0;
  for (int i = 0; i < 40; ++i) {
    const double p = 0.5 * (low + high);
    (at_most(seen, samples, p) > doubt ? low : high) = p;
  }
  return high;
}

double smallest_share(double count, double samples, double doubt, double doubt_z) noexcept {
  const double seen = std::floor(count + 1e-9);
  if (!(seen > 0.0)) return 0.0;
  if (seen > kMany) return std::max(0.0, wilson(seen, samples, -doubt_z));
  double low = 0.0;
  double high = std::min(1.0, seen / samples);
  for (int i = 0; i < 40; ++i) {
    const double p = 0.5 * (low + high);
    (at_most(seen - 1.0, samples, p) < 1.0 - doubt ? high : low) = p;
  }
  return low;
}

}  // namespace selfheal::detail
