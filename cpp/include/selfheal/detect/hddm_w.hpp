#pragma once

#include <limits>

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// Drift detection by McDiarmid's bound on weighted moving averages (Frias-Blanco and others 2015,
/// W-test), on a stream of numbers from 0 to 1: HddmA with exponential forgetting, for gradual
/// changes.
///
/// Alarms equal river's, whose average starts over when it is exactly 0. Finds a rise; with
/// two_sided a fall as well. update: O(1). Bytes: 224, and 3 KiB for the onset tracker.
class HddmW : public LearningDetector<HddmW> {
 public:
  static constexpr StateTag kTag = state_tag("HDMW");
  static constexpr bool kRestarts = true;

  /// Confidences: probabilities of error, above 0, at most 1. weight: of the newest sample, 0 to 1.
  explicit HddmW(double drift_confidence = 0.001, double warning_confidence = 0.005,
                 double weight = 0.05, bool two_sided = false, bool track_onset = true,
                 bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static HddmW read(StateReader& reader);

  double drift_confidence() const noexcept { return drift_confidence_; }
  double warning_confidence() const noexcept { return warning_confidence_; }
  double weight() const noexcept { return weight_; }
  bool two_sided() const noexcept { return two_sided_; }
  bool warning_detected() const noexcept { return warning_detected_; }
  /// Average since the cut for a rise minus the one before it; 0 without either.
  double statistic() const noexcept;
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  struct Average {
    double value = 0.0;
    double bound = 1.0;  // the independent bounded condition's sum of squared weights
    bool used = false;

    void add(double x, double weight) noexcept;
    void write(StateWriter& writer) const;
    void read(StateReader& reader);
  };
  static double mcdiarmid(double bound, double log_confidence) noexcept;
  static bool exceeds(const Average& before, const Average& after, double log_confidence) noexcept;

  double drift_confidence_;
  double warning_confidence_;
  double log_drift_;  // logarithms of one over the confidences
  double log_warning_;
  double weight_;
  Average all_;
  Average rise_before_;
  Average rise_after_;
  Average fall_before_;
  Average fall_after_;
  double rise_cut_ = std::numeric_limits<double>::infinity();
  double fall_cut_ = -std::numeric_limits<double>::infinity();
  bool two_sided_;
  bool warning_detected_ = false;
};

}  // namespace selfheal
