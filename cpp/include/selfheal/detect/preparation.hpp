#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/bank_charts.hpp"

namespace selfheal {

/// What charts do with the scores of a Reference, learned from the same samples in the order in
/// which they came.
///
/// Clipped to +-limit(), the score of the most extreme sample: how far out a rarer value lies,
/// calibration cannot know. Whitened: e = (z - phi z_before) / sqrt(1 - phi^2), phi the scores'
/// lag-1 autocorrelation, its bias taken off, at most 0.995; 0 if it is within two standard errors
/// of it. Standardised to mean 0 and variance 1, the variance including autocorrelations at lags 2
/// to 10 that stand out of the noise. The result's distribution is kept as up to 256 levels with
/// shares; beside it what is known of its memory: neighbours and spans that belong together, far
/// samples in a row, and a level or a spread that wanders from one part of the calibration to the
/// next.
///
/// Immutable after construction: any number of threads. 4 KiB inside the object.
class Preparation {
 public:
  static constexpr std::size_t kLevels = 256;

  /// Of a standard normal distribution that is known for certain.
  static Preparation normal();
  /// scores: NaN where there was no sample; `count` of them are numbers, at least 2. `lowest` and
  /// `highest` are the extreme ones. whiten: whether memory is taken out. Allocates.
  Preparation(std::vector<double> scores, std::uint64_t count, double lowest, double highest,
              bool whiten);

  /// The chart's input for a clipped score after another one; `before` NaN: after a gap.
  double prepared(double clipped, double before) const noexcept {
    const double e = std::isnan(before) ? clipped * sqrt_whitened_ : clipped - phi_ * before;
    return (e - offset_) * scale_;
  }
  double clip(double score) const noexcept {
    return score > limit_ ? limit_ : (score < -limit_ ? -limit_ : score);
  }
  /// Lag-1 autocorrelation that is taken out; 0 if none stood out.
  double phi() const noexcept { return phi_; }
  /// What prepared() computes with.
  double sqrt_whitened() const noexcept { return sqrt_whitened_; }
  double offset() const noexcept { return offset_; }
  double scale() const noexcept { return scale_; }
  double limit() const noexcept { return limit_; }
  /// How many standard deviations of the chart's input a lasting shift of one score makes.
  double gain() const noexcept { return (1.0 - phi_) * scale_; }

  /// What steps of one chart have in common beyond chance, neighbours and those far apart, at the
  /// theta of bank_thresholds.hpp: log of the growth that it adds, and its variance times samples,
  /// in which the error of phi counts for as long as a chart takes on its way to the threshold.
  struct Dependence {
    double excess = 0.0;
    double variance = 0.0;
  };
  const Dependence& dependence(std::size_t side, std::size_t k) const noexcept {
    return dependence_[side][k];
  }

  /// Samples beyond the cut of a side's far samples, and how many of the next ones were as well.
  struct FarSamples {
    double followed = 0.0;
    double by_far = 0.0;
  };
  const FarSamples& far(std::size_t side) const noexcept { return far_[side]; }

  /// How far the mean of a long stretch may lie from the calibration's, in standard deviations of
  /// the chart's input, beyond what independent inputs would do: an upper limit; 0 if nothing stood
  /// out.
  double wander() const noexcept { return wander_; }
  /// The standard deviation of the spread of long stretches beyond what independent inputs would
  /// do, as a share of the calibration's spread; 0 if nothing stood out.
  double spread_wander() const noexcept { return spread_wander_; }
  /// The part of the calibration's variance that a straight line through its levels explains, where
  /// the level wanders; 0 elsewhere. Close to 1: a trend.
  double trend() const noexcept { return trend_; }

  /// How far the sums of the chart's input stray (Kwiatkowski, Phillips, Schmidt and Shin 1992): of
  /// a constant level above 0.574 once in forty calibrations, above 1.168 once in a thousand.
  double unsteadiness() const noexcept { return unsteadiness_; }

  /// Whether the distribution was given, not estimated.
  bool is_exact() const noexcept { return is_exact_; }
  /// The distribution of the chart's input.
  std::size_t levels() const noexcept { return levels_; }
  double level(std::size_t i) const noexcept { return level_[i]; }
  double level_share(std::size_t i) const noexcept { return level_share_[i]; }

  void write(StateWriter& writer) const;
  static Preparation read(StateReader& reader, std::uint16_t version);  // of the Reference's state

 private:
  Preparation() = default;
  void keep_levels(std::vector<double> inputs, std::uint64_t count, double lowest, double highest);
  void measure_dependence(const std::vector<double>& inputs);
  void measure_far(const std::vector<double>& inputs, std::uint64_t count);
  void measure_wander(const std::vector<double>& inputs);

  double limit_ = 8.0;
  double phi_ = 0.0;
  double sqrt_whitened_ = 1.0;  // sqrt(1 - phi^2)
  double offset_ = 0.0;
  double scale_ = 1.0;
  double wander_ = 0.0;
  double spread_wander_ = 0.0;
  double trend_ = 0.0;
  double unsteadiness_ = 0.0;
  bool is_exact_ = false;
  std::size_t levels_ = 0;
  std::array<double, kLevels> level_{};  // increasing
  std::array<double, kLevels> level_share_{};
  std::array<std::array<Dependence, BankCharts::kAllowances>, BankCharts::kSides> dependence_{};
  std::array<FarSamples, BankCharts::kSides> far_{};
};

/// Where the far samples of a side begin, and which share of all they are. The cut is infinite
/// where no level is rare enough.
struct FarCut {
  double cut;
  double share;
};

/// side 0: above; 1: below, for the inputs with their signs changed. samples: of the calibration.
FarCut far_cut(const Preparation& preparation, std::size_t side, double samples) noexcept;

}  // namespace selfheal
