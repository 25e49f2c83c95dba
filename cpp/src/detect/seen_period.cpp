#include "selfheal/detect/seen_period.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace selfheal {
namespace {

constexpr std::size_t kLongest = 4096;
constexpr double kLeast = 0.15;
constexpr double kLeastDepth = 0.3;
constexpr double kLeastOfTwo = 0.6;  // where there are fewer than three cycles
constexpr double kTroughOfTwo = -0.2;

struct Peak {
  std::size_t lag = 0;
  double height = 0.0;
};

// With the mean taken off and 0 where there is no score.
double correlation(std::span<const double> held, std::size_t lag) noexcept {
  double products = 0.0;
  double early = 0.0;
  double late = 0.0;
  for (std::size_t i = lag; i < held.size(); ++i) {
    products += held[i] * held[i - lag];
    early += held[i - lag] * held[i - lag];
    late += held[i] * held[i];
  }
  return early > 0.0 && late > 0.0 ? products / std::sqrt(early * late) : 0.0;
}

std::vector<double> centred(std::span<const double> scores, std::size_t step) {
  std::vector<double> held;
  double total = 0.0;
  double numbers = 0.0;
  for (std::size_t begin = 0; begin + step <= scores.size(); begin += step) {
    double sum = 0.0;
    double count = 0.0;
    for (const double score : scores.subspan(begin, step)) {
      if (std::isnan(score)) continue;
      sum += score;
      count += 1.0;
    }
    held.push_back(count > 0.0 ? sum / count : std::nan(""));
    total += count > 0.0 ? sum / count : 0.0;
    numbers += count > 0.0 ? 1.0 : 0.0;
  }
  const double mean = numbers > 0.0 ? total / numbers : 0.0;
  for (double& x : held) x = std::isnan(x) ? 0.0 : x - mean;
  return held;
}

Peak highest_peak(std::span<const double> held) {
  const std::size_t most = held.size() / 2;
  if (most < 3) return {};
  std::vector<double> at(most + 1, 1.0);
  for (std::size_t lag = 1; lag <= most; ++lag) at[lag] = correlation(held, lag);
  Peak best;
  double trough = 1.0;
  double fading = 0.0;  // sum of squares before the first zero
  bool is_fading = true;
  for (std::size_t lag = 2; lag < most; ++lag) {
    trough = std::min(trough, at[lag - 1]);
    if (is_fading) fading += at[lag - 1] * at[lag - 1];
    is_fading = is_fading && at[lag] > 0.0;
    if (!(at[lag] >= at[lag - 1] && at[lag] >= at[lag + 1])) continue;
    const bool is_two = 3 * lag > held.size();
    const double error = 1.0 / std::sqrt(static_cast<double>(held.size() - lag));
    // Bartlett (1946): what memory makes of the error.
    const double noise = std::max(4.0 * error, 2.0 * error * std::sqrt(1.0 + 2.0 * fading));
    const double least = is_two ? kLeastOfTwo : std::max(noise, kLeast);
    if (!(at[lag] >= least && at[lag] - trough >= kLeastDepth)) continue;
    if (is_two && !(trough <= kTroughOfTwo)) continue;
    // Two periods are one as well: the later one only if it is clearly higher.
    if (at[lag] > 1.1 * best.height) best = {lag, at[lag]};
  }
  return best;
}

// A peak is as wide as the period is smooth; that of twice the period is no wider and twice as far.
std::size_t refined(std::span<const double> held, const Peak& peak) {
  auto period = static_cast<double>(peak.lag);
  const auto beside = static_cast<std::size_t>(std::max(2.0, period / 8.0));
  for (double cycles = 2.0; cycles * period < 0.5 * static_cast<double>(held.size());
       cycles *= 2.0) {
    const auto middle = static_cast<std::size_t>(std::lround(cycles * period));
    Peak best;
    for (std::size_t lag = middle - beside; lag <= middle + beside; ++lag) {
      const double height = correlation(held, lag);
      if (height > best.height) best = {lag, height};
    }
    if (best.height < 0.7 * peak.height) break;
    period = static_cast<double>(best.lag) / cycles;
  }
  return static_cast<std::size_t>(std::lround(period));
}

}  // namespace

std::size_t seen_period(std::span<const double> scores) {
  const std::size_t first = std::min(scores.size(), kLongest);
  const std::vector<double> early = centred(scores.first(first), 1);
  const Peak best = highest_peak(early);
  const std::size_t found = best.lag == 0 ? 0 : refined(early, best);
  if (scores.size() <= kLongest) return found;
  const std::size_t step = (scores.size() + kLongest - 1) / kLongest;
  const Peak coarse = highest_peak(centred(scores, step));
  if (coarse.lag < 4 || !(coarse.height > 1.1 * best.height)) return found;
  const std::vector<double> held = centred(scores, 1);
  const std::size_t middle = coarse.lag * step;
  Peak exact;
  for (std::size_t lag = middle - step; lag <= middle + step; ++lag) {
    const double height = correlation(held, lag);
    if (height > exact.height) exact = {lag, height};
  }
  return refined(held, exact);
}

}  // namespace selfheal
