#include "selfheal/detect/hddm_a.hpp"

#include <cmath>

#include "detect/hddm_detail.hpp"

namespace selfheal {
namespace {

// Whether a difference is at least the root of `square`. Most are so far below that their own
// square tells, and a root takes longer than all else.
bool reaches(double difference, double square) noexcept {
  if (difference < 0.0 || difference * difference < square * (1.0 - 1e-9)) return false;
  return difference >= std::sqrt(square);
}

}  // namespace

HddmA::HddmA(double drift_confidence, double warning_confidence, bool two_sided, bool track_onset,
             bool latch)
    : LearningDetector(track_onset, latch),
      drift_confidence_(drift_confidence),
      warning_confidence_(warning_confidence),
      log_bound_(std::log(1.0 / drift_confidence)),
      log_drift_(std::log(2.0 / drift_confidence)),
      log_warning_(std::log(2.0 / warning_confidence)),
      two_sided_(two_sided) {
  require_confidence("drift_confidence", drift_confidence);
  require_confidence("warning_confidence", warning_confidence);
}

double HddmA::bound(double n) const noexcept { return std::sqrt(1.0 / (2.0 * n) * log_bound_); }

bool HddmA::rose(double log_confidence) const noexcept {
  if (low_.count == all_.count) return false;
  const double m = (all_.count - low_.count) / low_.count * (1.0 / all_.count);
  return reaches(all_.mean - low_.mean, m / 2.0 * log_confidence);
}

bool HddmA::fell(double log_confidence) const noexcept {
  if (high_.count == all_.count) return false;
  const double m = (all_.count - high_.count) / high_.count * (1.0 / all_.count);
  return reaches(high_.mean - all_.mean, m / 2.0 * log_confidence);
}

bool HddmA::take(double x) noexcept {
  all_.add(x);
  const double eps = bound(all_.count);
  if (low_.count == 0.0 || low_edge_ >= all_.mean + eps) {
    low_ = all_;
    low_edge_ = all_.mean + eps;
  }
  if (high_.count == 0.0 || high_edge_ <= all_.mean - eps) {
    high_ = all_;
    high_edge_ = all_.mean - eps;
  }
  bool alarm = rose(log_drift_);
  warning_detected_ = !alarm && rose(log_warning_);
  if (two_sided_) {
    if (fell(log_drift_)) {
      alarm = true;
    } else if (fell(log_warning_)) {
      warning_detected_ = true;
    }
  }
  return alarm;
}

void HddmA::forget() noexcept {
  all_ = {};
  low_ = {};
  high_ = {};
  warning_detected_ = false;
}

void HddmA::write(StateWriter& writer) const {
  writer.f64(drift_confidence_);
  writer.f64(warning_confidence_);
  writer.u8(two_sided_ ? 1 : 0);
  all_.write(writer);
  low_.write(writer);
  high_.write(writer);
  writer.u8(warning_detected_ ? 1 : 0);
}

HddmA HddmA::read(StateReader& reader) {
  const double drift = reader.f64();
  const double warning = reader.f64();
  StateReader::require(is_confidence(drift) && is_confidence(warning), "parameters out of range");
  HddmA detector(drift, warning, reader.u8() != 0, false);
  detector.all_.read(reader);
  detector.low_.read(reader);
  detector.high_.read(reader);
  detector.warning_detected_ = reader.u8() != 0;
  detector.low_edge_ = detector.low_.mean + detector.bound(detector.low_.count);
  detector.high_edge_ = detector.high_.mean - detector.bound(detector.high_.count);
  return detector;
}

}  // namespace selfheal
