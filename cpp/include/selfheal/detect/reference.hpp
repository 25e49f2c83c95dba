#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/detect/bank_charts.hpp"

namespace selfheal {

/// The knots of a Reference, laid out for a search in two steps: which sixteen, which of these.
struct ReferenceTable {
  static constexpr std::size_t kKnots = 256;
  static constexpr std::size_t kCoarse = 16;

  /// What lies between a knot and the next: beside each other, since they are read together.
  struct Segment {
    double score;  ///< the knot's, strictly increasing; beyond the last knot its score
    double slope;  ///< score per value, finite; 0 from the last knot on
  };

  double coarse[kCoarse];     ///< every sixteenth value
  double values[kKnots + 1];  ///< strictly increasing; infinity beyond the last knot
  Segment segments[kKnots + 1];
  std::size_t knots;  ///< at least 1
  double unit;        ///< value per score; 0 with one knot

  double lowest_score() const noexcept { return segments[0].score; }
  double highest_score() const noexcept { return segments[knots - 1].score; }
};

/// A signal's frozen distribution: turns a value into the normal score that its rank would have.
///
/// Fit: every distinct calibration value v gets the mid-rank p = (#less + #equal / 2) / n and the
/// score z = inverse normal cdf of p, so that a level which half of all samples share scores as the
/// middle of that half. Up to 256 distinct values are all kept; of more, those nearest to 256
/// scores spaced evenly from the lowest to the highest (equiprobable knots would leave the tails,
/// where alarms come from, almost bare). Between knots: linear.
///
/// Beyond the extremes: with t = distance from the extreme in units of (highest - lowest value) /
/// (highest - lowest score), z = z_extreme +- r t / (r + t), r = kBound - |z_extreme|: monotone,
/// starting with the distribution's mean slope, never beyond +-kBound. Infinities score +-kBound,
/// NaN scores NaN. With a constant reference every other value scores +-kBound: there is no scale
/// to tell near from far.
///
/// For charts the scores are prepared further, all from the same samples, which must be in the
/// order in which they came. Clipped to +-limit(), the score of the most extreme sample: how far
/// out a rarer value lies, calibration cannot know. Whitened: e = (z - phi z_before) /
/// sqrt(1 - phi^2), phi the scores' lag-1 autocorrelation, its bias taken off, at most 0.995; 0 if
/// it is within two standard errors of it. Standardised to mean 0 and variance 1, the variance
/// including autocorrelations at lags 2 to 10 that stand out of the noise. Their distribution is
/// kept as up to 256 levels with shares.
///
/// Fitting sorts a copy, O(n log n), and allocates; after that nothing does. score: 32
/// comparisons, no libm, so that scores are the same on any machine that holds the same state. 10
/// KiB inside the object. Immutable after construction: any number of threads.
class Reference {
 public:
  static constexpr std::size_t kKnots = ReferenceTable::kKnots;
  static constexpr double kBound = 8.0;

  /// samples: at least 2 finite ones, whose range is finite; others are skipped and counted.
  explicit Reference(std::span<const double> samples);
  explicit Reference(std::span<const float> samples);

  /// Of a normal distribution that is known for certain: samples() is infinite then.
  static Reference normal(double mean, double std);

  double score(double x) const noexcept;

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
  /// Whether the distribution was given, not estimated.
  bool is_exact() const noexcept { return is_exact_; }
  /// The distribution of the chart's input.
  std::size_t levels() const noexcept { return levels_; }
  double level(std::size_t i) const noexcept { return level_[i]; }
  double level_share(std::size_t i) const noexcept { return level_share_[i]; }

  /// scores.size() >= samples.size().
  template <typename T>
  void score_many(std::span<const T> samples, std::span<double> scores) const noexcept {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      scores[i] = score(static_cast<double>(samples[i]));
    }
  }

  /// Calibration samples used.
  std::uint64_t count() const noexcept { return count_; }
  /// Calibration samples that were not finite.
  std::uint64_t skipped() const noexcept { return skipped_; }
  double lowest() const noexcept { return table_.values[0]; }
  double highest() const noexcept { return table_.values[table_.knots - 1]; }
  const ReferenceTable& table() const noexcept { return table_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this; }

  std::vector<std::byte> state() const;
  static Reference from_state(std::span<const std::byte> blob);

 private:
  Reference() = default;
  void fit(std::vector<double> samples);
  void prepare(const std::vector<double>& samples);
  void keep_levels(std::vector<double> inputs);
  void measure_dependence(const std::vector<double>& inputs);
  void finish_table() noexcept;

  ReferenceTable table_{};
  double limit_ = kBound;
  double phi_ = 0.0;
  double sqrt_whitened_ = 1.0;  // sqrt(1 - phi^2)
  double offset_ = 0.0;
  double scale_ = 1.0;
  bool is_exact_ = false;
  std::size_t levels_ = 0;
  std::array<double, kKnots> level_{};  // increasing
  std::array<double, kKnots> level_share_{};
  std::array<std::array<Dependence, BankCharts::kAllowances>, BankCharts::kSides> dependence_{};
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
};

}  // namespace selfheal
