#pragma once

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// Drift detection by Hoeffding's bound on moving averages (Frias-Blanco and others 2015, A-test),
/// on a stream of numbers from 0 to 1.
///
/// Compares the mean of everything with that up to the point where its upper (lower) bound was
/// smallest (largest); alarm when they differ by sqrt(m / 2 log(2 / confidence)). Alarms equal
/// river's. Finds a rise; with two_sided a fall as well. update: O(1). Bytes: 152, and 3 KiB for
/// the onset tracker.
class HddmA : public LearningDetector<HddmA> {
 public:
  static constexpr StateTag kTag = state_tag("HDMA");
  static constexpr bool kRestarts = true;

  /// Confidences: probabilities of error, above 0, at most 1.
  explicit HddmA(double drift_confidence = 0.001, double warning_confidence = 0.005,
                 bool two_sided = false, bool track_onset = true, bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static HddmA read(StateReader& reader);

  double drift_confidence() const noexcept { return drift_confidence_; }
  double warning_confidence() const noexcept { return warning_confidence_; }
  bool two_sided() const noexcept { return two_sided_; }
  bool warning_detected() const noexcept { return warning_detected_; }
  /// Mean of everything minus mean up to the cut for a rise.
  double statistic() const noexcept { return all_.mean - low_.mean; }
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  double bound(double n) const noexcept;
  bool rose(double log_confidence) const noexcept;
  bool fell(double log_confidence) const noexcept;

  double drift_confidence_;
  double warning_confidence_;
  // Logarithms of 1 and 2 over the confidences: taken at every sample they were half of its cost.
  double log_bound_;
  double log_drift_;
  double log_warning_;
  RunningMean all_;
  RunningMean low_;
  RunningMean high_;
  double low_edge_ = 0.0;  // of low_ and high_: the mean and its bound
  double high_edge_ = 0.0;
  bool two_sided_;
  bool warning_detected_ = false;
};

}  // namespace selfheal
