#pragma once

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// Early drift detection method (Baena-Garcia and others 2006) on a stream of errors: 1 wrong,
/// anything else right. Watches the distance between errors:
///
///     at an error: p, s = mean and standard deviation of the distances so far
///     level = (p + 2 s) / the largest p + 2 s so far
///     alarm if level < beta, warning if level < alpha, after warm_start samples and errors
///
/// Alarms equal river's. update: O(1). Bytes: 144, and 3 KiB for the onset tracker. The root is
/// the C library's pow(v, 0.5), as Python's is.
class Eddm : public LearningDetector<Eddm> {
 public:
  static constexpr StateTag kTag = state_tag("EDDM");
  static constexpr bool kRestarts = true;

  /// warm_start >= 0; alpha >= beta.
  explicit Eddm(double warm_start = 30, double alpha = 0.95, double beta = 0.9,
                bool track_onset = true, bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static Eddm read(StateReader& reader);

  double warm_start() const noexcept { return warm_start_; }
  double alpha() const noexcept { return alpha_; }
  double beta() const noexcept { return beta_; }
  bool warning_detected() const noexcept { return warning_detected_; }
  /// The latest level, 1 before there is one; small is bad.
  double statistic() const noexcept { return level_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

 private:
  double warm_start_;
  double alpha_;
  double beta_;
  RunningMean distances_;
  double squares_ = 0.0;
  double samples_ = 0.0;
  double errors_ = 0.0;
  double last_error_ = 0.0;
  double largest_ = -1.0;
  double level_ = 1.0;
  bool warning_detected_ = false;
};

}  // namespace selfheal
