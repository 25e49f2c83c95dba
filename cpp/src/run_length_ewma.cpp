#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "run_length_detail.hpp"
#include "selfheal/argument_error.hpp"
#include "selfheal/run_length.hpp"

namespace selfheal {
namespace {

constexpr double kSmallestWeight = 1e-3;
constexpr double kOpenSide = 9.0;  // how far, in its own sd, a one-sided chart may wander: 1e-19

void check_weight(double weight) {
  if (!(weight >= kSmallestWeight && weight <= 1.0)) {
    refuse("weight", "a number from 0.001 to 1", weight);
  }
}

double log_ewma(double limit, double weight, double shift, Sides sides) {
  const double sd = std::sqrt(weight / (2.0 - weight));
  const double high = limit * sd;
  const double low = sides == Sides::kBoth ? -high : std::min(0.0, shift) - kOpenSide * sd;
  if (weight == 1.0) {
    const double below = sides == Sides::kBoth ? normal_cdf(-limit - shift) : 0.0;
    return -std::log(below + normal_cdf(shift - limit));
  }
  const auto count = static_cast<std::size_t>(32.0 + 2.5 * (high - low) / weight);
  const Quadrature rule = gauss_legendre(count, low, high);
  AbsorbingChain chain(count + 1);
  for (std::size_t i = 0; i <= count; ++i) {
    const double decayed = (1.0 - weight) * (i == 0 ? 0.0 : rule.nodes[i - 1]);
    for (std::size_t j = 0; j < count; ++j) {
      chain.move(i, j + 1) =
          rule.weights[j] / weight * normal_density((rule.nodes[j] - decayed) / weight - shift);
    }
    chain.leave(i) = normal_cdf(shift - (high - decayed) / weight);
    if (sides == Sides::kBoth) chain.leave(i) += normal_cdf((low - decayed) / weight - shift);
  }
  return chain.log_time_from_first();
}

double oriented(double shift, Sides sides) noexcept {
  return sides == Sides::kLower ? -shift : shift;
}

}  // namespace

double ewma_average_run_length(double limit, double weight, double shift, Sides sides) {
  require_positive("limit", limit);
  check_weight(weight);
  require_finite("shift", shift);
  return std::exp(log_ewma(limit, weight, oriented(shift, sides), sides));
}

double ewma_limit(double arl0, double weight, Sides sides) {
  require_arl0(arl0);
  check_weight(weight);
  const double wanted = std::log(arl0);
  return solve_rising([&](double limit) { return log_ewma(limit, weight, 0.0, sides) - wanted; },
                      1e-3, 4.0);
}

double shewhart_average_run_length(double limit, double shift, Sides sides) {
  require_positive("limit", limit);
  require_finite("shift", shift);
  return std::exp(log_ewma(limit, 1.0, oriented(shift, sides), sides));
}

double shewhart_limit(double arl0, Sides sides) { return ewma_limit(arl0, 1.0, sides); }

}  // namespace selfheal
