#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "detect/run_length_detail.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/detect/run_length.hpp"

namespace selfheal {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSmallestWeight = 1e-3;
constexpr double kSmallestLimit = 1e-6;
constexpr double kNeverReached = 39.0;  // standard deviations: less likely than 1e-308
constexpr double kMostNodes = 4096.0;

void check_weight(double weight) {
  if (!(weight >= kSmallestWeight && weight <= 1.0)) {
    refuse("weight", "a number from 0.001 to 1", weight);
  }
}

double log_ewma(double limit, double weight, double shift, Sides sides) {
  const double sd = std::sqrt(weight / (2.0 - weight));
  if (weight == 1.0) {
    const double below = sides == Sides::kBoth ? normal_cdf(-limit - shift) : 0.0;
    return -std::log(below + normal_cdf(shift - limit));
  }
  const bool is_both = sides == Sides::kBoth;
  // How far the average, which is never beyond 0 and the shift but for chance, stays from a limit.
  const double nearest = is_both ? std::fabs(shift) : shift;
  if (limit - std::max(0.0, nearest) / sd > kNeverReached) return kInfinity;
  const double high = limit * sd;
  const double low = is_both ? -high : -kEwmaOpenSide * sd;
  const double nodes = 32.0 + 2.5 * (high - low) / weight;
  if (nodes > kMostNodes) refuse("limit", "a narrower one for this weight", limit);
  const auto count = static_cast<std::size_t>(nodes);
  const Quadrature rule = gauss_legendre(count, low, high);
  // State 0 is where the chart starts; the last of a one-sided one is where it is held.
  const std::size_t states = count + (is_both ? 1 : 2);
  AbsorbingChain chain(states);
  for (std::size_t i = 0; i < states; ++i) {
    const double from = i == 0 ? 0.0 : (i <= count ? rule.nodes[i - 1] : low);
    const double decayed = (1.0 - weight) * from;
    for (std::size_t j = 0; j < count; ++j) {
      chain.move(i, j + 1) =
          rule.weights[j] / weight * normal_density((rule.nodes[j] - decayed) / weight - shift);
    }
    const double below = normal_cdf((low - decayed) / weight - shift);
    chain.leave(i) = normal_cdf(shift - (high - decayed) / weight);
    (is_both ? chain.leave(i) : chain.move(i, count + 1)) += below;
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
  const double shortest = log_ewma(kSmallestLimit, weight, 0.0, sides);
  if (shortest > wanted) refuse_short("limit", shortest, arl0);
  return solve_rising([&](double limit) { return log_ewma(limit, weight, 0.0, sides) - wanted; },
                      kSmallestLimit, 4.0);
}

double shewhart_average_run_length(double limit, double shift, Sides sides) {
  require_positive("limit", limit);
  require_finite("shift", shift);
  return std::exp(log_ewma(limit, 1.0, oriented(shift, sides), sides));
}

double shewhart_limit(double arl0, Sides sides) { return ewma_limit(arl0, 1.0, sides); }

}  // namespace selfheal
