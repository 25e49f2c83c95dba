#include "selfheal/detect/bank_thresholds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "detect/lundberg.hpp"
#include "detect/run_length_detail.hpp"
#include "detect/share_bounds.hpp"

namespace selfheal {
namespace {

using detail::largest_share;

// With sd the standard deviation of a chart's log run length over calibrations, a bank keeps the
// sum of its charts' rates, 90 % of the time, with this many sd a chart: charts rarely fail
// together, but for a large sd the mean of their log-normal rates is ruled by its largest. Set by
// simulation on the six distributions of benchmarks/signals_for_detectors.py.
double allowance_for(double sd) noexcept { return 0.5 + 0.33 * sd; }
// Upper limits of the share of far samples hold in this many of a hundred calibrations, those of
// how many come in a row in so many.
constexpr double kTailDoubt = 0.025;
constexpr double kRowDoubt = 0.2;
constexpr double kBunchedDoubt = 0.05;       // where they do come in rows
constexpr double kLargestShare = 0.48;       // of far samples that leaves something to be found
constexpr double kLeastMemories = 50.0;      // that a calibration has to hold
constexpr double kSoughtShare = 0.6;         // that is found fastest, at most
constexpr double kSmallestShare = 0.25;      // of theta that uncertainty must leave
constexpr double kSmallestDependent = 0.01;  // and memory
constexpr std::size_t kLattice = 96;
constexpr double kTailExtra = 0.01;    // share of far samples to be found fastest
constexpr double kTailMultiple = 3.0;  // of the share that is possible
constexpr std::uint32_t kLargestTail = 8192;
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

// How far level and spread may go from the calibration's for long.
struct Wandering {
  double level;
  double spread;

  bool is_any() const noexcept { return level > 0.0 || spread > 0.0; }
  double moved(double score) const noexcept { return score * (1.0 + spread) + level; }
};

// One side of one CUSUM. `samples` is what calibration had; infinite if it knew.
Solved solve_cusum(const std::vector<Step>& scores, double k,
                   const Preparation::Dependence& dependence, double samples,
                   const Wandering& wandering, double log_arl0) {
  std::vector<Step> steps = scores;
  for (Step& step : steps) step.value -= k;
  const double calm_theta = lundberg(steps);
  if (calm_theta == 0.0) return {kInfinity, kInfinity};
  double certain = 0.0;
  if (wandering.is_any()) {
    certain = solve_cusum(scores, k, dependence, samples, {0.0, 0.0}, log_arl0).certain;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      steps[i].value = wandering.moved(scores[i].value) - k;
    }
  }
  const double theta = lundberg(steps);
  if (theta == 0.0) return {kInfinity, certain};
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
  const double dependent = lundberg(
      steps, [&](double at) { return dependence.excess * (at / calm_theta) * (at / calm_theta); });
  if (!(dependent > kSmallestDependent * theta)) {
    return {kInfinity, wandering.is_any() ? certain : kInfinity};
  }
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
  if (!wandering.is_any()) certain = stair(h, dependent);
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

// The share with which independent far samples would grow the chart as fast as these do, of which
// `p` are far and `again` of those that follow a far one: Lundberg's exponent of the two-state
// chain, and the independent share that has it. 1 if the chart rises on average.
double share_alone(double p, double again, double rise) noexcept {
  if (!(again > p)) return p;
  const double enter = p * (1.0 - again) / (1.0 - p);
  const auto falls = [&](double theta) {
    const double up = std::exp(rise * theta);
    const double down = std::exp(-theta);
    return (1.0 - (1.0 - enter) * down) * (1.0 - again * up) - enter * (1.0 - again) * up * down >
           0.0;
  };
  double high = -std::log(again) / rise;
  double low = 1e-6 * high;
  if (!falls(low)) return 1.0;
  for (int i = 0; i < 50; ++i) {
    const double middle = 0.5 * (low + high);
    (falls(middle) ? low : high) = middle;
  }
  return -std::expm1(-low) / (std::exp(rise * low) - std::exp(-low));
}

// What the far samples of a calibration leave possible: how many of the others a far one follows,
// how many of the far ones, and so which share of all.
struct FarBounds {
  double share;
  double again;
};

// Far samples come as a two-state chain, of which either move is bounded by how often it was seen.
// What follows a far sample that was never seen is taken as though one had been seen, alone.
FarBounds far_bounds(const Preparation::FarSamples& held, double share, double samples) noexcept {
  const double followed = std::max(1.0, held.followed);
  const double far = share * samples;
  // The first sample follows none and has no share: a count is whole but for that.
  const double begun = held.followed > 0.0 ? std::round(far * (1.0 - held.by_far / followed)) : 0.0;
  const double enter = largest_share(begun, samples - far, kTailDoubt, 1.96);
  const double least = 1.0 - largest_share(followed - held.by_far, followed, kBunchedDoubt, 1.645);
  const double again = std::min(
      1.0 - 1e-9, least > enter ? largest_share(held.by_far, followed, kBunchedDoubt, 1.645)
                                : largest_share(held.by_far, followed, kRowDoubt, 0.842));
  return {enter / (enter + 1.0 - again), again};
}

constexpr TailChart kNoTail{kInfinity, 1, 1};

std::uint32_t rise_of(double p, double p1) noexcept {
  const double ratio = std::log(p1 / p) / std::log((1.0 - p) / (1.0 - p1));
  return static_cast<std::uint32_t>(std::clamp(std::ceil(ratio), 1.0, 2000.0));
}

TailChart solve_tail(const std::vector<Step>& scores, const FarCut& far,
                     const Preparation::FarSamples& in_a_row, double samples,
                     const Wandering& wandering, bool keep, double log_arl0) {
  if (!std::isfinite(far.cut)) return kNoTail;
  double beyond = 0.0;  // of a level that has wandered towards the cut
  for (const Step& score : scores) {
    beyond += wandering.moved(score.value) > far.cut ? score.weight : 0.0;
  }
  double p = beyond;
  double again = 0.0;
  double sd = 0.0;
  if (std::isfinite(samples)) {
    const FarBounds possible = far_bounds(in_a_row, beyond, samples);
    p = possible.share;
    again = possible.again;
    sd = 0.5 * (p - beyond);
  }
  p = std::max(p, 1e-9);
  // Nothing is gained by looking for less than what calibration cannot tell from normal.
  // The few samples of a small calibration leave slow shifts to the CUSUMs.
  const auto sought = [&](double share) {
    return std::max(share + std::max(kTailExtra, 4.0 * sd), kTailMultiple * share);
  };
  TailChart chart{far.cut, 1, 0};
  double alone = share_alone(p, again, 1.0);
  const double held = share_alone(p, again, rise_of(p, std::min(kSoughtShare, sought(p))));
  const std::uint32_t rise = rise_of(held, std::min(kSoughtShare, sought(held)));
  const double higher = share_alone(p, again, rise);
  // With a rise of r the count falls as long as less than 1 in r + 1 is far.
  if (held < kLargestShare && (rise + 1.0) * higher < 2.0 * kLargestShare) {
    chart.rise = rise;
    alone = higher;
  }
  if (alone > kLargestShare && !keep) return kNoTail;
  alone = std::min(alone, kLargestShare);
  std::uint32_t low = 0;
  std::uint32_t high = chart.rise;
  while (log_tail_run(alone, chart.rise, high) < log_arl0) {
    low = high;
    high *= 2;
    if (high > kLargestTail) return kNoTail;
  }
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (log_tail_run(alone, chart.rise, middle) < log_arl0 ? low : high) = middle;
  }
  chart.limit = high;
  return chart;
}

// Whether the calibration has a level, and is long enough for its memory to show it.
bool is_settled(const Preparation& learned, double samples) noexcept {
  const double memory = (1.0 + learned.phi()) / (1.0 - learned.phi());
  return !(learned.wander() > 0.0) && !(samples < kLeastMemories * memory);
}

// more: how many times the calibration's samples these are.
BankThresholds solve(const Preparation& learned, double samples, double more, double arl0,
                     bool keep_far) {
  const double log_arl0 = std::log(arl0) + std::log(static_cast<double>(BankCharts::kCharts));
  const Wandering wandering{learned.wander(), learned.spread_wander()};
  BankThresholds solved;
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    std::vector<Step> scores;
    for (std::size_t i = 0; i < learned.levels(); ++i) {
      const double value = learned.level(i);
      scores.push_back({side == 0 ? value : -value, learned.level_share(i)});
    }
    if (side == 1) std::reverse(scores.begin(), scores.end());
    for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
      const Solved one = solve_cusum(scores, BankCharts::kAllowance[k], learned.dependence(side, k),
                                     samples, wandering, log_arl0);
      solved.cusum[side][k] = one.h;
      solved.certain[side][k] = one.certain;
    }
    const Preparation::FarSamples far{more * learned.far(side).followed,
                                      more * learned.far(side).by_far};
    FarCut cut = far_cut(learned, side, samples);
    const bool has_no_level = keep_far && !is_settled(learned, samples);
    const bool keeps_far = has_no_level || (keep_far && wandering.spread > 0.0);
    if (has_no_level && learned.phi() == 0.0 && scores.size() > 1) {
      // A level that wanders comes back to where it was: far is what it never passed.
      cut.cut = std::max(cut.cut, 0.5 * (scores.back().value + scores[scores.size() - 2].value));
    }
    solved.tail[side] = solve_tail(scores, cut, far, samples, wandering, keeps_far, log_arl0);
  }
  return solved;
}

bool has_both_sides(const BankThresholds& solved) noexcept {
  constexpr std::size_t kCharts = BankCharts::kAllowances + 1;
  std::size_t held[BankCharts::kSides] = {0, 0};
  for (std::size_t chart = 0; chart < BankCharts::kCharts; ++chart) {
    if (!is_left_out(solved, chart)) ++held[chart / kCharts];
  }
  return held[0] > 0 && held[1] > 0;
}

}  // namespace

bool is_left_out(const BankThresholds& thresholds, std::size_t chart) noexcept {
  constexpr std::size_t kCharts = BankCharts::kAllowances + 1;
  const std::size_t side = chart / kCharts;
  const std::size_t k = chart % kCharts;
  return !std::isfinite(k < BankCharts::kAllowances ? thresholds.cusum[side][k]
                                                    : thresholds.tail[side].cut);
}

BankThresholds solve_bank_thresholds(const Reference& reference, double arl0, bool keep_far) {
  require_arl0(arl0);
  const Preparation& learned = reference.preparation();
  return solve(learned, learned.is_exact() ? kInfinity : static_cast<double>(reference.count()),
               1.0, arl0, keep_far);
}

std::uint64_t samples_needed(const Reference& reference, double arl0) {
  require_arl0(arl0);
  if (reference.preparation().is_exact()) return 0;
  const auto count = static_cast<double>(reference.count());
  double samples = count;
  for (int i = 0; i < 24; ++i) {
    if (has_both_sides(solve(reference.preparation(), samples, samples / count, arl0, false))) {
      return static_cast<std::uint64_t>(samples);
    }
    samples = std::ceil(1.5 * samples);
  }
  return 0;
}

}  // namespace selfheal
