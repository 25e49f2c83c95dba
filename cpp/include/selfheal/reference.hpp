#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace selfheal {

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
/// Fitting sorts a copy, O(n log n), and allocates; after that nothing does. score: O(log 256),
/// no libm, so that scores are the same on any machine that holds the same state. 4 KiB inside
/// the object. Immutable after construction: any number of threads.
class Reference {
 public:
  static constexpr std::size_t kKnots = 256;
  static constexpr double kBound = 8.0;

  /// samples: at least 2 finite ones, whose range is finite; others are skipped and counted.
  explicit Reference(std::span<const double> samples);
  explicit Reference(std::span<const float> samples);

  double score(double x) const noexcept;

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
  double lowest() const noexcept { return values_[0]; }
  double highest() const noexcept { return values_[knots_ - 1]; }
  std::size_t memory_bytes() const noexcept { return sizeof *this; }

  std::vector<std::byte> state() const;
  static Reference from_state(std::span<const std::byte> blob);

 private:
  Reference() = default;
  void fit(std::vector<double> samples);
  double beyond(double distance, double extreme_score) const noexcept;

  std::array<double, kKnots> values_{};  // strictly increasing
  std::array<double, kKnots> scores_{};  // strictly increasing
  std::size_t knots_ = 0;
  double unit_ = 0.0;  // value per score
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
};

}  // namespace selfheal
