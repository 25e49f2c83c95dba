#include "selfheal/run_length.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <string>
#include <vector>

#include "selfheal/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kWidestIntegral = 128;  // h up to which its size is reasonable
constexpr double kSmallestArl0 = 10.0;
constexpr double kLargestArl0 = 1e12;

double normal_density(double z) noexcept {
  return std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::numbers::pi);
}

double normal_cdf(double z) noexcept { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

struct Quadrature {
  std::vector<double> nodes;
  std::vector<double> weights;
};

// Gauss-Legendre on [0, h]: Newton on the Legendre polynomial, from the usual cosine guess.
Quadrature gauss_legendre(std::size_t count, double h) {
  Quadrature rule{std::vector<double>(count), std::vector<double>(count)};
  const auto n = static_cast<double>(count);
  for (std::size_t i = 0; i < count; ++i) {
    double x = std::cos(std::numbers::pi * (static_cast<double>(i) + 0.75) / (n + 0.5));
    double slope = 0.0;
    for (int iteration = 0; iteration < 100; ++iteration) {
      double value = 1.0;
      double before = 0.0;
      for (std::size_t j = 1; j <= count; ++j) {
        const auto degree = static_cast<double>(j);
        const double next = ((2.0 * degree - 1.0) * x * value - (degree - 1.0) * before) / degree;
        before = value;
        value = next;
      }
      slope = n * (x * value - before) / (x * x - 1.0);
      const double step = value / slope;
      x -= step;
      if (std::fabs(step) < 1e-15) break;
    }
    rule.nodes[i] = 0.5 * h * (1.0 - x);
    rule.weights[i] = h / ((1.0 - x * x) * slope * slope);
  }
  return rule;
}

// Mean number of steps until absorption from state 0. `a` holds the n * n transition weights, whose
// diagonal is not read, and `escape` each state's probability of absorption. States are eliminated
// from the last one on (Grassmann, Taksar and Heyman 1985): every operation adds or divides
// positive numbers, so nothing cancels and the answer keeps its digits however long the run length.
double steps_to_absorption(std::vector<double>& a, std::vector<double>& escape) {
  const std::size_t n = escape.size();
  std::vector<double> steps(n, 1.0);
  for (std::size_t last = n; --last > 0;) {
    const double* const from_last = &a[last * n];
    double leaving = escape[last];
    for (std::size_t j = 0; j < last; ++j) leaving += from_last[j];
    for (std::size_t i = 0; i < last; ++i) {
      const double visits = a[i * n + last] / leaving;
      if (visits == 0.0) continue;
      for (std::size_t j = 0; j < last; ++j) a[i * n + j] += visits * from_last[j];
      escape[i] += visits * escape[last];
      steps[i] += visits * steps[last];
    }
  }
  return steps[0] / escape[0];
}

// States: zero, and the nodes. `drift` is k - shift, how fast the chart falls.
double integral_run_length(double h, double drift) {
  const auto count = static_cast<std::size_t>(32.0 + 2.5 * h);
  const Quadrature rule = gauss_legendre(count, h);
  const std::size_t n = count + 1;
  std::vector<double> a(n * n, 0.0);
  std::vector<double> escape(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double u = i == 0 ? 0.0 : rule.nodes[i - 1];
    escape[i] = normal_cdf(u - drift - h);
    a[i * n] = normal_cdf(drift - u);
    for (std::size_t j = 0; j < count; ++j) {
      a[i * n + j + 1] = rule.weights[j] * normal_density(rule.nodes[j] + drift - u);
    }
  }
  return steps_to_absorption(a, escape);
}

// log of Siegmund's run length; in logarithms it never overflows.
double log_siegmund(double h, double drift) noexcept {
  const double b = h + 1.166;
  const double exponent = 2.0 * drift * b;
  if (std::fabs(exponent) < 1e-3) {
    // (e^t - t - 1) / (2 d^2) with t = 2 d b is b^2 (1 + t/3 + t^2/12 + ...).
    return std::log(b * b * (1.0 + exponent / 3.0 + exponent * exponent / 12.0));
  }
  if (exponent > 700.0) return exponent - std::log(2.0 * drift * drift);
  return std::log((std::exp(exponent) - exponent - 1.0) / (2.0 * drift * drift));
}

double log_one_sided(double h, double drift) {
  const double limit = std::min(h, kWidestIntegral);
  const double solved = std::log(integral_run_length(limit, drift));
  return limit == h ? solved : solved + log_siegmund(h, drift) - log_siegmund(limit, drift);
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
  if (!(arl0 >= kSmallestArl0 && arl0 <= kLargestArl0)) {
    refuse("arl0", "a number of samples from 10 to 1e12", arl0);
  }
  require_not_negative("k", k);
  const double wanted = std::log(arl0) + (sides == Sides::kBoth ? std::log(2.0) : 0.0);
  const double smallest = log_one_sided(0.0, k);
  if (smallest > wanted) {
    refuse("arl0",
           "at least the run length without any threshold, " +
               std::to_string(std::exp(
                   smallest - std::log(arl0) > 700.0 ? 700.0 : smallest + std::log(arl0) - wanted)),
           arl0);
  }
  // Bracket with the closed form, then the Illinois variant of regula falsi on log L, nearly a
  // straight line in h.
  double low = 0.0;
  double high = 1.0;
  double at_low = smallest - wanted;
  double at_high = log_one_sided(high, k) - wanted;
  while (at_high < 0.0) {
    low = high;
    at_low = at_high;
    high *= 2.0;
    at_high = log_one_sided(high, k) - wanted;
  }
  int kept = 0;
  for (int i = 0; i < 100 && high - low > 1e-10 * (1.0 + high); ++i) {
    const double h = low + (high - low) * (at_low / (at_low - at_high));
    const double at = log_one_sided(h, k) - wanted;
    if (std::fabs(at) < 1e-13) return h;
    if (at < 0.0) {
      low = h;
      at_low = at;
      if (kept == -1) at_high *= 0.5;
      kept = -1;
    } else {
      high = h;
      at_high = at;
      if (kept == 1) at_low *= 0.5;
      kept = 1;
    }
  }
  return at_high < -at_low ? high : low;
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
