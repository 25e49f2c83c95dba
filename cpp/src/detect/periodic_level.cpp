#include "selfheal/detect/periodic_level.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kGap = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kMostFolds = 8;
constexpr double kLeastSpread = 0.2;  // of the usual one: places where samples hardly differ

using Levels = std::vector<std::vector<double>>;

// Of two the mean; NaN of none. Reorders.
double median_of(std::vector<double>& values) noexcept {
  if (values.empty()) return kGap;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return 0.5 * (*middle + *std::max_element(values.begin(), middle));
}

// Which samples are left out: those from `begin` to before `end`.
struct Fold {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool holds(std::size_t i) const noexcept { return i >= begin && i < end; }
};

// The median of the samples at each place outside of the fold, smoothed over `width` places.
std::vector<double> level_by_place(std::span<const double> samples, std::size_t period,
                                   std::size_t width, const Fold& fold) {
  std::vector<double> level(period, kGap);
  std::vector<double> held;
  for (std::size_t place = 0; place < period; ++place) {
    held.clear();
    for (std::size_t i = place; i < samples.size(); i += period) {
      if (!fold.holds(i) && !std::isnan(samples[i])) held.push_back(samples[i]);
    }
    level[place] = median_of(held);
  }
  // Sums over the circle, of the places that have a sample.
  std::vector<double> smooth(period, kGap);
  const std::size_t half = width / 2;
  double sum = 0.0;
  double count = 0.0;
  const auto add = [&](std::size_t place, double sign) {
    const double at = level[place % period];
    if (std::isnan(at)) return;
    sum += sign * at;
    count += sign;
  };
  const bool is_whole = width >= period;
  for (std::size_t i = 0; i < (is_whole ? period : 2 * half + 1); ++i) {
    add(is_whole ? i : i + period - half, 1.0);
  }
  for (std::size_t place = 0; place < period; ++place) {
    if (count > 0.5) smooth[place] = sum / count;
    if (is_whole) continue;
    add(place + period - half, -1.0);
    add(place + half + 1, 1.0);
  }
  // Where no sample was near: the mean of the others.
  double total = 0.0;
  double places = 0.0;
  for (const double at : smooth) {
    if (std::isnan(at)) continue;
    total += at;
    places += 1.0;
  }
  const double mean = places > 0.0 ? total / places : 0.0;
  for (double& at : smooth) at = std::isnan(at) ? mean : at;
  return smooth;
}

void take_off(std::vector<double>& samples, const std::vector<double>& level, double sign) {
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] -= sign * level[i % level.size()];
}

// Levels of all periods, each of what the others leave; those of the longer ones have mean zero.
Levels fit(std::span<const double> samples, const std::vector<std::size_t>& periods,
           const std::vector<std::size_t>& widths, const Fold& fold) {
  Levels levels;
  std::vector<double> left(samples.begin(), samples.end());
  for (std::size_t pass = 0; pass < (widths.size() > 1 ? 2U : 1U); ++pass) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (pass > 0) take_off(left, levels[i], -1.0);
      std::vector<double> level = level_by_place(left, periods[i], widths[i], fold);
      take_off(left, level, 1.0);
      if (pass > 0) {
        levels[i] = std::move(level);
      } else {
        levels.push_back(std::move(level));
      }
    }
  }
  return levels;
}

// What folds leave of their own samples by the levels of the others.
std::vector<double> left_by_others(std::span<const double> samples,
                                   const std::vector<std::size_t>& periods,
                                   const std::vector<std::size_t>& widths,
                                   const std::vector<Fold>& folds) {
  std::vector<double> left(samples.begin(), samples.end());
  for (const Fold& fold : folds) {
    const Levels levels = fit(samples, periods, widths, fold);
    for (std::size_t i = fold.begin; i < fold.end; ++i) {
      for (const std::vector<double>& level : levels) left[i] -= level[i % level.size()];
    }
  }
  return left;
}

// Mean distance from zero; levels have taken the middle out.
double error_of(std::span<const double> left) noexcept {
  double sum = 0.0;
  double count = 0.0;
  for (const double x : left) {
    if (std::isnan(x)) continue;
    sum += std::fabs(x);
    count += 1.0;
  }
  return count > 0.0 ? sum / count : 0.0;
}

}  // namespace

PeriodicLevel::PeriodicLevel(std::span<const double> samples, std::vector<std::size_t> periods,
                             std::vector<double>& residuals)
    : periods_(std::move(periods)) {
  if (periods_.empty() || periods_.size() > kMost) {
    refuse("period", "1 to " + std::to_string(kMost) + " periods", periods_.size());
  }
  std::sort(periods_.begin(), periods_.end());
  const std::size_t most = std::min(kLongest, samples.size() / 2);
  for (std::size_t i = 0; i < periods_.size(); ++i) {
    if (periods_[i] < 2 || periods_[i] > most) {
      refuse("period",
             "2 to " + std::to_string(most) + " samples, so that the calibration has seen it twice",
             periods_[i]);
    }
    if (i > 0 && periods_[i] == periods_[i - 1]) {
      refuse("period", "different periods", periods_[i]);
    }
  }
  std::vector<double> held(samples.begin(), samples.end());
  for (double& x : held) x = std::isfinite(x) ? x : kGap;
  const std::size_t longest = periods_.back();
  const std::size_t cycles = samples.size() / longest;
  const std::size_t count = std::min(cycles, kMostFolds);
  std::vector<Fold> folds;
  for (std::size_t i = 0; i < count; ++i) {
    folds.push_back({i * cycles / count * longest,
                     i + 1 == count ? samples.size() : (i + 1) * cycles / count * longest});
  }
  std::vector<std::size_t> widths;
  for (const std::size_t period : periods_) {
    std::size_t best = period;
    double least = std::numeric_limits<double>::infinity();
    widths.push_back(period);
    // From all places to one, by halves; the wider one unless the narrower is clearly better.
    for (std::size_t width = period; width > 0; width = width == 1 ? 0 : ((width / 2) | 1U)) {
      widths.back() = width;
      const double error = error_of(left_by_others(held, periods_, widths, folds));
      if (error < 0.99 * least) {
        least = error;
        best = width;
      }
      if (width <= 2) break;
    }
    widths.back() = best;
  }
  residuals = left_by_others(held, periods_, widths, folds);
  levels_ = fit(held, periods_, widths, Fold{});
  // The middle stays with the signal, not with its levels.
  double middle = 0.0;
  for (std::vector<double>& level : levels_) {
    double sum = 0.0;
    for (const double at : level) sum += at;
    const double mean = sum / static_cast<double>(level.size());
    for (double& at : level) at -= mean;
    middle += mean;
  }
  centre_ = middle;
  // Spread by place of the shortest period, over a sixth of it on either side.
  const std::size_t shortest = periods_.front();
  std::vector<double> distances = residuals;
  for (double& x : distances) x = std::fabs(x);
  weights_ = level_by_place(distances, shortest, (shortest / 3) | 1U, Fold{});
  double usual = 0.0;
  for (const double at : weights_) usual += at / static_cast<double>(shortest);
  for (double& at : weights_) {
    at = usual > 0.0 ? usual / std::max(at, kLeastSpread * usual) : 1.0;
  }
  for (std::size_t i = 0; i < residuals.size(); ++i) {
    residuals[i] = residuals[i] * weights_[i % shortest] + centre_;
  }
  for (const std::size_t period : periods_) places_.push_back(samples.size() % period);
}

std::size_t PeriodicLevel::memory_bytes() const noexcept {
  std::size_t places = weights_.size() + 2 * periods_.size();
  for (const std::vector<double>& level : levels_) places += level.size();
  return sizeof *this + places * sizeof(double);
}

void PeriodicLevel::write(StateWriter& writer) const {
  writer.u64(periods_.size());
  for (std::size_t i = 0; i < periods_.size(); ++i) {
    writer.u64(periods_[i]);
    writer.u64(places_[i]);
    for (const double at : levels_[i]) writer.f64(at);
  }
  for (const double at : weights_) writer.f64(at);
  writer.f64(centre_);
}

PeriodicLevel PeriodicLevel::read(StateReader& reader) {
  PeriodicLevel held;
  const std::uint64_t count = reader.u64();
  StateReader::require(count <= kMost, "periods out of range");
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t period = reader.u64();
    const std::uint64_t place = reader.u64();
    StateReader::require(period >= 2 && period <= kLongest && place < period &&
                             (i == 0 || period > held.periods_.back()) &&
                             period <= reader.remaining() / sizeof(double),
                         "a period out of range");
    held.periods_.push_back(static_cast<std::size_t>(period));
    held.places_.push_back(static_cast<std::size_t>(place));
    std::vector<double>& level = held.levels_.emplace_back(static_cast<std::size_t>(period));
    for (double& at : level) {
      at = reader.f64();
      StateReader::require(std::isfinite(at), "a level out of range");
    }
  }
  if (count > 0) {
    held.weights_.resize(held.periods_.front());
    for (double& at : held.weights_) {
      at = reader.f64();
      StateReader::require(at > 0.0 && std::isfinite(at), "a weight out of range");
    }
  }
  held.centre_ = reader.f64();
  StateReader::require(std::isfinite(held.centre_), "a level out of range");
  return held;
}

}  // namespace selfheal
