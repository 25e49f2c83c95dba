#pragma once

#include <limits>

#include "selfheal/detect/learning_detector.hpp"
#include "selfheal/detect/run_length.hpp"

namespace selfheal {

/// Page-Hinkley as river 0.2x computes it, bit for bit: the same order of operations on doubles.
///
///     n += 1; m += (1 / n) (x - m); d = x - m
///     up = alpha up + d - delta;       lowest = min(lowest, up), from +infinity
///     down = alpha down + d + delta;   highest = max(highest, down), from -1
///     alarm if n >= min_instances and (up - lowest > threshold or highest - down > threshold)
///
/// Differs from river in one thing: NaN and infinities are skipped, where river's goes silent for
/// ever. min_instances >= 0; delta, threshold: in the signal's units; alpha: forgetting factor.
/// update: O(1). Bytes: 160, and 3 KiB for the onset tracker.
class RiverPageHinkley : public LearningDetector<RiverPageHinkley> {
 public:
  static constexpr StateTag kTag = state_tag("PHRV");
  static constexpr bool kRestarts = true;

  explicit RiverPageHinkley(double min_instances = 30, double delta = 0.005,
                            double threshold = 50.0, double alpha = 1 - 0.0001,
                            Sides sides = Sides::kBoth, bool track_onset = true,
                            bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static RiverPageHinkley read(StateReader& reader);

  double delta() const noexcept { return delta_; }
  double threshold() const noexcept { return threshold_; }
  double alpha() const noexcept { return alpha_; }
  double min_instances() const noexcept { return min_instances_; }
  Sides sides() const noexcept { return sides_; }
  double mean() const noexcept { return mean_.mean; }
  double sum_increase() const noexcept { return up_; }
  double sum_decrease() const noexcept { return down_; }
  double min_increase() const noexcept { return lowest_; }
  double max_decrease() const noexcept { return highest_; }
  /// The larger of the two differences that are compared with the threshold.
  double statistic() const noexcept;
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  double min_instances_;
  double delta_;
  double threshold_;
  double alpha_;
  RunningMean mean_;
  double up_ = 0.0;
  double down_ = 0.0;
  double lowest_ = std::numeric_limits<double>::infinity();
  double highest_ = -1.0;
  Sides sides_;
};

/// Page-Hinkley and CUSUM as frouros 0.9 computes them, bit for bit; both watch for a rise only.
///
///     n += 1; m += (x - m) / n
///     Page-Hinkley: s = alpha s + ((x - m) - delta)
///     CUSUM:        s = max(0, ((s + x) - m) - delta)
///     alarm if n >= min_instances and s > threshold; nothing is started over
///
/// NaN and infinities are skipped. update: O(1). Bytes: 120, and 3 KiB for the onset tracker.
class FrourosChart : public LearningDetector<FrourosChart> {
 public:
  static constexpr StateTag kTag = state_tag("PHFR");
  static constexpr bool kRestarts = false;
  enum class Kind : std::uint8_t { kPageHinkley = 0, kCusum = 1 };

  explicit FrourosChart(Kind kind, double min_instances = 30, double delta = 0.005,
                        double threshold = 50.0, double alpha = 0.9999, bool track_onset = true,
                        bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static FrourosChart read(StateReader& reader);

  Kind kind() const noexcept { return kind_; }
  double delta() const noexcept { return delta_; }
  double threshold() const noexcept { return threshold_; }
  double alpha() const noexcept { return alpha_; }
  double min_instances() const noexcept { return min_instances_; }
  double mean() const noexcept { return mean_.mean; }
  /// The sum that is compared with the threshold.
  double statistic() const noexcept { return sum_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  Kind kind_;
  double min_instances_;
  double delta_;
  double threshold_;
  double alpha_;
  RunningMean mean_;
  double sum_ = 0.0;
};

}  // namespace selfheal
