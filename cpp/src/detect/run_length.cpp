#include "selfheal/detect/run_length.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "detect/run_length_detail.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kWidestIntegral = 128;  // h up to which the size of the system is reasonable

// log of Siegmund's run length; in logarithms it never overflows.
double log_siegmund(double h, double drift) noexcept {
  const double b = h + 1.166;
  const double exponent = 2.0 * drift * b;
  if (std::fabs(exponent) < 1e-3) {
    // (e^t - t - 1) / (2 d^2) with t = 2 d b is b^2 (1 + t/3 + t^2/12 + ...).
    return std::log(b * b * (1.0 + exponent / 3.0 + exponent * exponent / 12.0));
  }
  if (exponent > 700.0) return exponent - std::log(2.0 * drift * drift);
  if (exponent < -700.0) return std::log((b + 0.5 / drift) / -drift);
  return std::log((std::exp(exponent) - exponent - 1.0) / (2.0 * drift * drift));
}

// Unknowns: L(0) and L at the nodes. `drift` is k - shift, how fast the chart falls.
double log_integral(double h, double drift) {
  const auto count = static_cast<std::size_t>(32.0 + 2.5 * h);
  const Quadrature rule = gauss_legendre(count, 0.0, h);
  AbsorbingChain chain(count + 1);
  for (std::size_t i = 0; i <= count; ++i) {
    const double u = i == 0 ? 0.0 : rule.nodes[i - 1];
    chain.move(i, 0) = normal_cdf(drift - u);
    for (std::size_t j = 0; j < count; ++j) {
      chain.move(i, j + 1) = rule.weights[j] * normal_density(rule.nodes[j] + drift - u);
    }
    chain.leave(i) = normal_cdf(u - drift - h);
  }
  return chain.log_time_from_first();
}

double log_one_sided(double h, double drift) {
  if (h <= kWidestIntegral) return log_integral(h, drift);
  const double widest = log_integral(kWidestIntegral, drift);
  const double formula = log_siegmund(h, drift);
  const double formula_widest = log_siegmund(kWidestIntegral, drift);
  // A chart that falls on average has to be lucky all the way, which multiplies; one that rises
  // takes so many more steps, which adds.
  if (drift >= 0.0) return widest + formula - formula_widest;
  return std::log(std::exp(widest) + (std::exp(formula) - std::exp(formula_widest)));
}

double combine(Sides sides, double log_upper, double log_lower) noexcept {
  if (sides == Sides::kUpper) return std::exp(log_upper);
  if (sides == Sides::kLower) return std::exp(log_lower);
  return 1.0 / (std::exp(-log_upper) + std::exp(-log_lower));
}

void check(double h, double k, double shift) {
  require_not_negative("h", h);
  require_not_negative("k", k);
  require_finite("shift", shift);
}

}  // namespace

Sides parse_sides(std::string_view sides) {
  if (sides == "both") return Sides::kBoth;
  if (sides == "upper") return Sides::kUpper;
  if (sides == "lower") return Sides::kLower;
  refuse("sides", "'both', 'upper' or 'lower'", quoted(sides));
}

std::string_view to_string(Sides sides) noexcept {
  if (sides == Sides::kUpper) return "upper";
  return sides == Sides::kLower ? "lower" : "both";
}

double average_run_length(double h, double k, double shift, Sides sides) {
  check(h, k, shift);
  const bool upper = sides != Sides::kLower;
  const bool lower = sides != Sides::kUpper;
  const double log_upper = upper ? log_one_sided(h, k - shift) : 0.0;
  const double log_lower =
      lower ? (upper && shift == 0.0 ? log_upper : log_one_sided(h, k + shift)) : 0.0;
  return combine(sides, log_upper, log_lower);
}

double siegmund_average_run_length(double h, double k, double shift, Sides sides) {
  check(h, k, shift);
  return combine(sides, log_siegmund(h, k - shift), log_siegmund(h, k + shift));
}

double cusum_threshold(double arl0, double k, Sides sides) {
  require_arl0(arl0);
  require_not_negative("k", k);
  const double wanted = std::log(arl0) + (sides == Sides::kBoth ? std::log(2.0) : 0.0);
  const double smallest = log_one_sided(0.0, k);
  if (smallest > wanted) refuse_short("threshold", smallest + std::log(arl0) - wanted, arl0);
  return solve_rising([&](double h) { return log_one_sided(h, k) - wanted; }, 0.0, 1.0);
}

double choose_threshold(std::string_view name, std::optional<double> threshold,
                        std::optional<double> arl0, double k, Sides sides,
                        std::string_view k_name) {
  require_not_negative(k_name, k);
  if (threshold.has_value() == arl0.has_value()) {
    refuse(name, "exactly one of " + std::string(name) + " and arl0",
           std::string_view(threshold ? "both" : "neither"));
  }
  if (arl0) return cusum_threshold(*arl0, k, sides);
  require_positive(name, *threshold);
  return *threshold;
}

}  // namespace selfheal
