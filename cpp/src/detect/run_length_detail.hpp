#pragma once

// What the run lengths of all charts are computed with. Set-up only: it allocates.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numbers>
#include <utility>
#include <vector>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

inline double normal_density(double z) noexcept {
  return std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::numbers::pi);
}

inline double normal_cdf(double z) noexcept { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

inline void require_arl0(double arl0) {
  if (!(arl0 >= 10.0 && arl0 <= 1e12)) refuse("arl0", "a number of samples from 10 to 1e12", arl0);
}

// Refuses a run length that is shorter than a chart's with a limit, or threshold, of zero.
[[noreturn]] inline void refuse_short(const char* limit, double log_shortest, double arl0) {
  std::array<char, 96> expected{};
  std::snprintf(expected.data(), expected.size(), "at least the run length without any %s, %.7g",
                limit, std::exp(log_shortest));
  refuse("arl0", expected.data(), arl0);
}

struct Quadrature {
  std::vector<double> nodes;
  std::vector<double> weights;
};

// Gauss-Legendre on [low, high]: Newton on the Legendre polynomial, from the usual cosine guess.
inline Quadrature gauss_legendre(std::size_t count, double low, double high) {
  Quadrature rule{std::vector<double>(count), std::vector<double>(count)};
  const auto n = static_cast<double>(count);
  const double width = high - low;
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
    rule.nodes[i] = low + 0.5 * width * (1.0 - x);
    rule.weights[i] = width / ((1.0 - x * x) * slope * slope);
  }
  return rule;
}

/// A chain of states that is left for good with some probability at every step; how long it stays.
///
/// Solved by state reduction (Grassmann, Taksar and Heyman 1985): nothing is ever subtracted, so
/// the answer keeps nearly all digits of a double however long it is, where elimination on the
/// matrix I - P loses as many digits as the answer has.
class AbsorbingChain {
 public:
  explicit AbsorbingChain(std::size_t states)
      : states_(states), moves_(states * states, 0.0), leaves_(states, 0.0) {}

  /// Probability to go from one state to another. Staying put may be left out.
  double& move(std::size_t from, std::size_t to) { return moves_[from * states_ + to]; }
  /// Probability to leave the chain.
  double& leave(std::size_t from) { return leaves_[from]; }

  /// Log of the mean number of steps before leaving, from state 0. Uses the chain up.
  double log_time_from_first() {
    std::vector<double> time(states_, 1.0);
    for (std::size_t last = states_; --last > 0;) {
      const double* const row = &moves_[last * states_];
      double away = leaves_[last];
      for (std::size_t to = 0; to < last; ++to) away += row[to];
      if (!(away > 0.0)) continue;
      for (std::size_t from = 0; from < last; ++from) {
        double* const other = &moves_[from * states_];
        const double share = other[last] / away;
        if (share == 0.0) continue;
        for (std::size_t to = 0; to < last; ++to) other[to] += share * row[to];
        leaves_[from] += share * leaves_[last];
        time[from] += share * time[last];
      }
    }
    return std::log(time[0]) - std::log(leaves_[0]);
  }

 private:
  std::size_t states_;
  std::vector<double> moves_;
  std::vector<double> leaves_;
};

/// The root of a rising function: a bracket by doubling, then the Illinois variant of regula falsi.
template <typename Function>
double solve_rising(Function&& f, double low, double high, double tolerance = 1e-11) {
  double at_low = f(low);
  double at_high = f(high);
  while (at_high < 0.0) {
    low = high;
    at_low = at_high;
    high *= 2.0;
    at_high = f(high);
  }
  int kept = 0;
  for (int i = 0; i < 100 && high - low > tolerance * (1.0 + high); ++i) {
    const double x = low + (high - low) * (at_low / (at_low - at_high));
    const double at = f(x);
    if (std::fabs(at) < 1e-13) return x;
    if (at < 0.0) {
      low = x;
      at_low = at;
      if (kept == -1) at_high *= 0.5;
      kept = -1;
    } else {
      high = x;
      at_high = at;
      if (kept == 1) at_low *= 0.5;
      kept = 1;
    }
  }
  return at_high < -at_low ? high : low;
}

}  // namespace selfheal
