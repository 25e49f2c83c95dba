#pragma once

#include <limits>

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// Drift detection method (Gama and others 2004) on a stream of errors: 1 wrong, 0 right.
///
///     p = mean of the stream; s = sqrt(p (1 - p) / n); the smallest p + s so far is kept
///     alarm if n > warm_start and p + s > p_min + drift_threshold s_min; the same for warnings
///
/// Alarms equal river's. Finds a rise of the error rate only, and late: its mean covers all that
/// was since the last alarm. Values beyond 0 and 1 are taken, with s = 0 where the root has none.
/// update: O(1). Bytes: 144, and 3 KiB for the onset tracker.
class Ddm : public LearningDetector<Ddm> {
 public:
  static constexpr StateTag kTag = state_tag("DDM ");
  static constexpr bool kRestarts = true;

  explicit Ddm(double warm_start = 30, double warning_threshold = 2.0, double drift_threshold = 3.0,
               bool track_onset = true, bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static Ddm read(StateReader& reader);

  double warm_start() const noexcept { return warm_start_; }
  double warning_threshold() const noexcept { return warning_threshold_; }
  double drift_threshold() const noexcept { return drift_threshold_; }
  bool warning_detected() const noexcept { return warning_detected_; }
  /// (p + s - p_min) / s_min, compared with the thresholds; 0 during the warm-up.
  double statistic() const noexcept;
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  double warm_start_;
  double warning_threshold_;
  double drift_threshold_;
  RunningMean errors_;
  double p_min_ = 0.0;
  double s_min_ = 0.0;
  double smallest_ = std::numeric_limits<double>::infinity();
  double latest_ = 0.0;  // p + s
  bool warning_detected_ = false;
};

}  // namespace selfheal
