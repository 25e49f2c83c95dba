#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/detect/preparation.hpp"

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
/// For charts the scores are prepared further: preparation.hpp.
///
/// Fitting sorts a copy, O(n log n), and allocates; after that nothing does. score: 32
/// comparisons, no libm, so that scores are the same on any machine that holds the same state. 10
/// KiB inside the object. Immutable after construction: any number of threads.
class Reference {
 public:
  static constexpr std::size_t kKnots = ReferenceTable::kKnots;
  static constexpr double kBound = 8.0;

  /// samples: at least 2 finite ones, whose range is finite; others are skipped and counted.
  /// whiten: false leaves the memory in, for a level that wanders: what whitening leaves of a
  /// lasting change is lost beside it.
  explicit Reference(std::span<const double> samples, bool whiten = true);
  explicit Reference(std::span<const float> samples);

  /// Of a normal distribution that is known for certain: samples() is infinite then.
  static Reference normal(double mean, double std);

  double score(double x) const noexcept;

  /// What charts do with the scores.
  const Preparation& preparation() const noexcept { return preparation_; }

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
  Reference() : preparation_(Preparation::normal()) {}
  void fit(std::vector<double> samples);
  void finish_table() noexcept;

  ReferenceTable table_{};
  Preparation preparation_;
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
};

}  // namespace selfheal
