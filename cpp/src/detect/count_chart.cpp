#include "selfheal/detect/count_chart.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace selfheal {
namespace {

constexpr double kUp = 0.49;  // rounds up: what is sought is rather farther away than too close
constexpr std::size_t kWindow = 1024;  // levels that one step looks at, and more
static_assert(CountChart::kMostWeight + 2 < kWindow);

// The latest kWindow levels of something.
class Levels {
 public:
  double& operator[](std::size_t level) noexcept { return values_[level % kWindow]; }

 private:
  std::array<double, kWindow> values_{};
};

// The sum of the latest `length` numbers, by additions alone: what is small keeps its digits beside
// what was large. A queue made of two stacks: of those pushed last the sum, of those before the
// sums from the newest on.
class SlidingSum {
 public:
  explicit SlidingSum(std::size_t length) noexcept : length_(length) {}

  void push(double value) noexcept {
    if (length_ == 0) return;
    if (pushed_ == length_) {
      double sum = 0.0;
      for (std::size_t i = 0; i < length_; ++i) {  // the newest first
        sum += values_[length_ - 1 - i];
        older_[i] = sum;
      }
      left_ = length_;
      pushed_ = 0;
      newer_ = 0.0;
    }
    values_[pushed_++] = value;
    newer_ += value;
    if (left_ > 0) --left_;
  }
  double sum() const noexcept { return newer_ + (left_ > 0 ? older_[left_ - 1] : 0.0); }

 private:
  std::size_t length_;
  std::size_t pushed_ = 0;  // of values_
  std::size_t left_ = 0;    // of older_
  double newer_ = 0.0;
  std::array<double, CountChart::kMostWeight> values_{};
  std::array<double, CountChart::kMostWeight> older_{};
};

std::uint32_t whole(double weight, double least) noexcept {
  return static_cast<std::uint32_t>(
      std::lround(std::clamp(weight, least, double{CountChart::kMostWeight})));
}

// Whether one begin says no more than one sample without the event: in whole numbers that leaves
// no chart for this change.
bool is_coarse(const CountChart& chart, const EventChain& chain) noexcept {
  return chart.begin <= 1 && chain.share() > 0.35;
}

// What a run that begins, and one that goes on, say for odds that are `times` as large, in units of
// what a sample without the event says; the end of a run is told at its begin.
CountChart weights(const EventChain& chain, double times, double up = 0.0) noexcept {
  const double odds = times * chain.share() / (1.0 - chain.share());
  const double memory = std::max(0.0, chain.memory());
  const EventChain before = EventChain::of(chain.share(), memory);
  const EventChain now = EventChain::of(odds / (1.0 + odds), memory);
  const double unit = std::log((1.0 - now.begin) / (1.0 - before.begin));
  const double leave = std::log((1.0 - now.stay) / (1.0 - before.stay));
  const double begin = std::log(now.begin / before.begin) + leave - unit;
  const double stay = std::log(now.stay / before.stay);
  return {whole(up - begin / unit, 1.0), whole(-stay / unit, 0.0), 0};
}

// Whether a chart falls on average: per run of the event against what is between two.
double mean_step(const EventChain& chain, const CountChart& chart) noexcept {
  const double runs = chain.share() * (1.0 - chain.stay);
  const double goes_on = chain.share() * chain.stay;
  return runs * chart.begin + goes_on * chart.stay - (1.0 - chain.share());
}

// The least limit with at least that run; the log of a run grows by about as much a level.
template <typename Run>
CountChart solve(CountChart chart, double log_run, const Run& run) noexcept {
  const auto reach = [&](double limit) {
    chart.limit = static_cast<std::uint32_t>(limit);
    return run(chart);
  };
  double low = 0.0;
  double low_run = 0.0;
  double high = std::max(8.0, 2.0 * chart.begin);
  double high_run = reach(high);
  while (high_run < log_run) {
    if (high >= CountChart::kMostLevels) {
      return {};
    }
    low = high;
    low_run = high_run;
    high = std::min(2.0 * high, double{CountChart::kMostLevels});
    high_run = reach(high);
  }
  bool is_halved = false;
  while (high - low > 1.0) {
    const double share = is_halved ? 0.5 : (log_run - low_run) / (high_run - low_run);
    const double guess = std::clamp(std::ceil(low + share * (high - low)), low + 1.0, high - 1.0);
    const double guess_run = reach(guess);
    is_halved = !is_halved;
    if (guess_run < log_run) {
      low = guess;
      low_run = guess_run;
    } else {
      high = guess;
      high_run = guess_run;
    }
  }
  chart.limit = static_cast<std::uint32_t>(high);
  return chart;
}

}  // namespace

// From level j without the event the chart reaches j - 1 or the alarm; so it does from j within a
// run, and either way it arrives without the event.
double log_rising_run(const EventChain& chain, const CountChart& chart) noexcept {
  const double a = chain.begin;
  const double b = chain.stay;
  const std::size_t limit = chart.limit;
  Levels log_safe;  // log P(level j falls to j - 1), summed over all from j on: for times alone
  Levels spent;     // time of that, weighted by what the levels above leave, summed likewise
  Levels alarm;     // P(alarm) from within a run at j, before j - 1
  Levels time;      // until then
  SlidingSum begins(chart.begin - 1);  // of log P from j + 1 on, below where a run begins
  SlidingSum goes_on(chart.stay);      // of log P from j on, below where it goes on
  // P(alarm) and time from within a run at `top` down to `bottom` without the event; `falls` is the
  // log P between.
  struct Way {
    double alarm;
    double time;
  };
  const auto way = [&](std::size_t top, std::size_t bottom, double falls) -> Way {
    if (top > limit) return {1.0, 0.0};
    const double safe = 1.0 - alarm[top];
    const double on_the_way = (spent[bottom + 1] - spent[top]) / std::exp(log_safe[top]);
    return {-std::expm1(std::log1p(-alarm[top]) + falls), time[top] + safe * on_the_way};
  };
  log_safe[limit + 1] = 0.0;
  spent[limit + 1] = 0.0;
  for (std::size_t j = limit; j > 0; --j) {
    const Way up = way(j + chart.begin, j, begins.sum());
    const double back = 1.0 - a * (1.0 - up.alarm);
    const double falls = std::log1p(-a * up.alarm / back);
    spent[j] = spent[j + 1] + (1.0 + a * up.time) / back * std::exp(log_safe[j + 1]);
    log_safe[j] = log_safe[j + 1] + falls;
    begins.push(falls);
    goes_on.push(falls);
    if (chart.stay == 0) {
      alarm[j] = 0.0;
      time[j] = 1.0 / (1.0 - b);
      continue;
    }
    const Way on = way(j + chart.stay, j - 1, goes_on.sum());
    alarm[j] = b * on.alarm;
    time[j] = 1.0 + b * on.time;
  }
  const Way first = way(chart.begin, 0, begins.sum());
  return std::log1p(a * first.time) - std::log(a) - std::log(first.alarm);
}

// Time from level j without the event to j + 1; so from within a run.
double log_falling_run(const EventChain& chain, const CountChart& chart) noexcept {
  const double a = chain.begin;
  const double b = chain.stay;
  Levels sum;  // of times from the levels up to j
  Levels within;
  within[0] = 1.0 / (1.0 - b);
  sum[0] = 1.0 + a * within[0];
  for (std::size_t j = 1; j <= chart.limit; ++j) {
    const auto from = [&](std::size_t weight) { return j > weight ? j - weight : 0; };
    const std::size_t begins = from(chart.begin);
    const double time = (1.0 + a * (within[begins] + sum[j - 1] - sum[begins])) / (1.0 - a);
    sum[j] = sum[j - 1] + time;
    const std::size_t goes_on = from(chart.stay);
    within[j] = goes_on == j ? within[0] : 1.0 + b * (within[goes_on] + sum[j] - sum[goes_on]);
  }
  return std::log(sum[chart.limit]);
}

CountChart solve_rising(const EventChain& chain, double times, double log_run) noexcept {
  if (!(chain.share() > 0.0 && chain.share() < 0.5 && chain.stay < 1.0)) return {};
  const CountChart chart = weights(chain, times);
  if (is_coarse(chart, chain) || !(mean_step(chain, chart) < 0.0)) return {};
  return solve(chart, log_run, [&](const CountChart& c) { return log_rising_run(chain, c); });
}

CountChart solve_falling(const EventChain& chain, double times, double log_run) noexcept {
  if (!(chain.share() > 0.0 && chain.share() < 1.0 && chain.stay < 1.0)) return {};
  const CountChart chart = weights(chain, 1.0 / times, kUp);
  if (!(mean_step(chain, chart) > 0.0)) return {};
  return solve(chart, log_run, [&](const CountChart& c) { return log_falling_run(chain, c); });
}

}  // namespace selfheal
