#include "selfheal/detect/bank_thresholds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "detect/lundberg.hpp"
#include "detect/run_length_detail.hpp"

namespace selfheal {
namespace {

// With sd the standard deviation of a chart's log run length over calibrations, a bank keeps the
// sum of its charts' rates, 90 % of the time, with this many sd a chart: charts rarely fail
// together, but for a large sd the mean of their log-normal rates is ruled by its largest. Set by
// simulation on the six distributions of benchmarks/signals_for_detectors.py.
double allowance_for(double sd) noexcept { return 0.5 + 0.33 * sd; }
constexpr double kTailQuantile = 2.0;
constexpr double kSmallestShare = 0.25;      // of theta that uncertainty must leave
constexpr double kSmallestDependent = 0.01;  // and memory
constexpr std::size_t kLattice = 96;
constexpr double kTailShare = 0.001;   // of scores beyond the cut
constexpr double kTailSamples = 20.0;  // calibration samples that must be there
constexpr double kTailExtra = 0.01;    // share of far samples to be found fastest
constexpr double kLargestTail = 1e6;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Log run length of a CUSUM with these steps, from 0, on a lattice: each step is shared between
// the two nearest lattice points, so that means are kept.
double log_lattice(const std::vector<Step>& steps, double h) {
  const double spacing = h / static_cast<double>(kLattice);
  const std::size_t states = kLattice + 1;
  const auto reach = static_cast<std::ptrdiff_t>(states);
  std::vector<double> shift(2 * states + 1, 0.0);  // probability of moving by i - states
  double below = 0.0;                              // and by less, or more, than that
  double above = 0.0;
  const auto add = [&](std::ptrdiff_t by, double weight) {
    if (by < -reach) {
      below += weight;
    } else if (by > reach) {
      above += weight;
    } else {
      shift[static_cast<std::size_t>(by + reach)] += weight;
    }
  };
  for (const Step& step : steps) {
    const double at = step.value / spacing;
    const double floor = std::floor(std::clamp(at, -1e9, 1e9));
    const auto by = static_cast<std::ptrdiff_t>(floor);
    add(by, step.weight * (1.0 - (at - floor)));
    add(by + 1, step.weight * (at - floor));
  }
  AbsorbingChain chain(states);
  for (std::size_t from = 0; from < states; ++from) {
    chain.move(from, 0) += below;
    chain.leave(from) += above;
    for (std::size_t i = 0; i < shift.size(); ++i) {
      const auto to = static_cast<std::ptrdiff_t>(from + i) - reach;
      if (to <= 0) {
        chain.move(from, 0) += shift[i];
      } else if (to >= reach) {
        chain.leave(from) += shift[i];
      } else {
        chain.move(from, static_cast<std::size_t>(to)) += shift[i];
      }
    }
  }
  return chain.log_time_from_first();
}

// Whether steps upwards are so far apart that the threshold passes few of them: then the run length
// is a stair, and no smooth formula follows it.
bool is_coarse(const std::vector<Step>& steps, double h) noexcept {
  for (std::size_t i = 1; i < steps.size(); ++i) {
    if (steps[i].value > 0.0 && steps[i].value - steps[i - 1].value > h / 8.0) return true;
  }
  return false;
}

// The same steps, the high ones more likely, so that the exponent falls from theta to `exponent`:
// weights times exp(tilt value), and tilt from M(tilt + exponent) = M(tilt), M their transform.
std::vector<Step> tilted(const std::vector<Step>& steps, double theta, double exponent) {
  const double top = steps.back().value;
  const auto transform = [&](double tilt) {
    double sum = 0.0;
    for (const Step& step : steps) sum += step.weight * std::exp(tilt * (step.value - top));
    return sum;
  };
  double low = 0.0;
  double high = std::max(0.0, theta - exponent);
  for (int i = 0; i < 40; ++i) {
    const double tilt = 0.5 * (low + high);
    const double more = std::log(transform(tilt + exponent) / transform(tilt)) + exponent * top;
    (more < 0.0 ? low : high) = tilt;
  }
  std::vector<Step> result = steps;
  const double sum = transform(high);
  for (Step& step : result) step.weight *= std::exp(high * (step.value - top)) / sum;
  return result;
}

// The threshold from `h` on that gives the run length on the lattice.
double solve_stair(const std::vector<Step>& steps, double h, double log_arl0) {
  if (log_lattice(steps, h) >= log_arl0) return h;
  double low = h;
  double high = h;
  for (int i = 0; i < 64 && log_lattice(steps, high) < log_arl0; ++i) {
    low = high;
    high *= 1.5;
  }
  while (high - low > 1e-3 * high) {
    const double middle = 0.5 * (low + high);
    (log_lattice(steps, middle) < log_arl0 ? low : high) = middle;
  }
  return high;
}

double log_growth(double theta_b) noexcept {
  if (theta_b > 30.0) return theta_b;
  if (theta_b < 1e-2) return std::log(0.5 * theta_b * theta_b * (1.0 + theta_b / 3.0));
  return std::log(std::expm1(theta_b) - theta_b);
}

struct Solved {
  double h;
  double certain;
};

// One side of one CUSUM. `samples` is what calibration had; infinite if it knew.
Solved solve_cusum(const std::vector<Step>& steps, const Reference::Dependence& dependence,
                   double samples, double log_arl0) {
  const double theta = lundberg(steps);
  if (theta == 0.0) return {kInfinity, kInfinity};
  if (theta == kInfinity) return {std::numeric_limits<double>::min(), 0.0};
  double spread = 0.0;
  double slope = 0.0;
  for (const Step& step : steps) {
    const double tilted = std::exp(theta * step.value);
    spread += step.weight * tilted * tilted;
    slope += step.weight * step.value * tilted;
  }
  // Siegmund's formula with this theta, its overshoot fitted to the chain at a small h.
  const double small = std::min(6.0 / theta, std::max(2.0, 2.0 / theta));
  const double at_small = log_lattice(steps, small);
  const double overshoot = 1.166;
  // Steps that come in bunches: the excess of their products, which falls with theta's square.
  const double dependent =
      lundberg(steps, [&](double at) { return dependence.excess * (at / theta) * (at / theta); });
  if (!(dependent > kSmallestDependent * theta)) return {kInfinity, kInfinity};
  // With r what memory leaves of theta, the inputs' variance over long spans is 1 / r: the mean's
  // error moves the exponent by sqrt(r) of what it would without memory, that of the memory by r^2.
  const double left = dependent / theta;
  const double squares =
      std::max(0.0, spread - 1.0) * left + dependence.variance * std::pow(left, 4);
  const double deviation = std::sqrt(squares / samples) / slope;
  const auto log_run = [&](double h, double exponent) {
    return at_small + log_growth(exponent * (h + overshoot)) -
           log_growth(theta * (small + overshoot)) -
           // The formula's denominator is theta times the mean step, which memory leaves and
           // uncertainty shrinks like theta.
           std::log(left) - 2.0 * std::log(exponent / dependent);
  };
  const auto solve = [&](double exponent) {
    if (log_run(1e-9, exponent) >= log_arl0) return 1e-9;
    return solve_rising([&](double h) { return log_run(h, exponent) - log_arl0; }, 1e-9, 4.0, 1e-9);
  };
  const auto stair = [&](double from, double exponent) {
    if (!is_coarse(steps, from)) return from;
    return solve_stair(tilted(steps, theta, exponent), from, log_arl0);
  };
  double h = solve(dependent);
  const double certain = stair(h, dependent);
  double pessimistic = dependent;
  for (int i = 0; i < 6; ++i) {
    const double allowance = allowance_for((h + overshoot) * deviation);
    pessimistic = dependent - allowance * deviation;
    if (!(pessimistic >= kSmallestShare * dependent)) return {kInfinity, certain};
    h = solve(pessimistic);
  }
  return {stair(h, pessimistic), certain};
}

// Log run length of the counting chart, from 0. From state j it reaches j - 1 or the alarm; what
// both take follows from the states above, since it falls by one at a time.
double log_tail_run(double p, std::uint32_t rise, std::uint32_t limit) {
  const std::size_t states = limit + 1;
  std::vector<double> log_safe(states + 1, 0.0);  // log P(j reaches j - 1), summed over all above
  std::vector<double> time(states + 1, 0.0);      // until then, or the alarm
  std::vector<double> survive(states + 1, 1.0);   // P(j reaches j - 1)
  const auto from_above = [&](std::size_t j, double& alarm, double& spent) {
    alarm = 1.0;
    spent = 0.0;
    if (j + rise > limit) return;
    double reached = 1.0;
    for (std::size_t i = j + rise; i > j; --i) {
      spent += reached * time[i];
      reached *= survive[i];
    }
    alarm = -std::expm1(log_safe[j + 1] - log_safe[j + rise + 1]);
  };
  double alarm = 1.0;
  double spent = 0.0;
  for (std::size_t j = limit; j > 0; --j) {
    from_above(j, alarm, spent);
    const double back = 1.0 - p * (1.0 - alarm);
    const double log_survive = std::log1p(-p * alarm / back);
    survive[j] = std::exp(log_survive);
    time[j] = (1.0 + p * spent) / back;
    log_safe[j] = log_safe[j + 1] + log_survive;
  }
  from_above(0, alarm, spent);
  return std::log((1.0 + p * spent) / p) - std::log(alarm);
}

TailChart solve_tail(const std::vector<Step>& scores, double samples, double log_arl0) {
  const double wanted = std::max(kTailShare, kTailSamples / samples);
  double beyond = 0.0;
  double cut = kInfinity;
  for (std::size_t i = scores.size(); i-- > 0;) {  // from the highest down
    if (beyond + scores[i].weight > wanted) break;
    beyond += scores[i].weight;
    cut = i == 0 ? -kInfinity : 0.5 * (scores[i].value + scores[i - 1].value);
  }
  const double counted = beyond * samples;
  double p = beyond;
  double sd = 0.0;
  if (std::isfinite(samples)) {
    sd = std::sqrt(counted + 1.0) / samples;
    p = (counted + 1.0) / samples + kTailQuantile * sd;
  }
  p = std::clamp(p, 1e-9, 0.25);
  // Nothing is gained by looking for less than what calibration cannot tell from normal.
  const double p1 = std::min(0.5, p + std::max(kTailExtra, 4.0 * sd));
  const double ratio = std::log(p1 / p) / std::log((1.0 - p) / (1.0 - p1));
  TailChart chart{cut, static_cast<std::uint32_t>(std::clamp(std::ceil(ratio), 1.0, 2000.0)), 0};
  std::uint32_t low = 0;
  std::uint32_t high = chart.rise;
  while (log_tail_run(p, chart.rise, high) < log_arl0 && high < kLargestTail) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (log_tail_run(p, chart.rise, middle) < log_arl0 ? low : high) = middle;
  }
  chart.limit = high;
  return chart;
}

}  // namespace

BankThresholds solve_bank_thresholds(const Reference& reference, double arl0) {
  require_arl0(arl0);
  const double log_arl0 = std::log(arl0) + std::log(static_cast<double>(BankCharts::kCharts));
  const double samples = reference.is_exact() ? kInfinity : static_cast<double>(reference.count());
  BankThresholds solved;
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    std::vector<Step> scores;
    for (std::size_t i = 0; i < reference.levels(); ++i) {
      const double value = reference.level(i);
      scores.push_back({side == 0 ? value : -value, reference.level_share(i)});
    }
    if (side == 1) std::reverse(scores.begin(), scores.end());
    for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
      std::vector<Step> steps = scores;
      for (Step& step : steps) step.value -= BankCharts::kAllowance[k];
      const Solved one = solve_cusum(steps, reference.dependence(side, k), samples, log_arl0);
      solved.cusum[side][k] = one.h;
      solved.certain[side][k] = one.certain;
    }
    solved.tail[side] = solve_tail(scores, samples, log_arl0);
  }
  return solved;
}

}  // namespace selfheal
