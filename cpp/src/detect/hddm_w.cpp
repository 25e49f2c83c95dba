#include "selfheal/detect/hddm_w.hpp"

#include <cmath>

#include "detect/hddm_detail.hpp"

namespace selfheal {

void HddmW::Average::add(double x, double weight) noexcept {
  value = value == 0.0 ? x : x * weight + value * (1.0 - weight);
  used = true;
  bound = weight * weight + (1.0 - weight) * (1.0 - weight) * bound;
}

void HddmW::Average::write(StateWriter& writer) const {
  writer.f64(value);
  writer.f64(bound);
  writer.u8(used ? 1 : 0);
}

void HddmW::Average::read(StateReader& reader) {
  value = reader.f64();
  bound = reader.f64();
  used = reader.u8() != 0;
}

HddmW::HddmW(double drift_confidence, double warning_confidence, double weight, bool two_sided,
             bool track_onset, bool latch)
    : LearningDetector(track_onset, latch),
      drift_confidence_(drift_confidence),
      warning_confidence_(warning_confidence),
      log_drift_(std::log(1.0 / drift_confidence)),
      log_warning_(std::log(1.0 / warning_confidence)),
      weight_(weight),
      two_sided_(two_sided) {
  require_confidence("drift_confidence", drift_confidence);
  require_confidence("warning_confidence", warning_confidence);
  if (!(weight >= 0.0 && weight <= 1.0)) refuse("weight", "a number from 0 to 1", weight);
}

double HddmW::mcdiarmid(double bound, double log_confidence) noexcept {
  return std::sqrt(bound * log_confidence / 2.0);
}

bool HddmW::exceeds(const Average& before, const Average& after, double log_confidence) noexcept {
  if (!(before.used && after.used)) return false;
  const double difference = after.value - before.value;
  const double bound = before.bound + after.bound;
  // Most are so far from the bound that its square tells, and a root takes longer than all else.
  if (!(difference > 0.0)) return false;
  if (difference * difference < bound * log_confidence / 2.0 * (1.0 - 1e-9)) return false;
  return difference > mcdiarmid(bound, log_confidence);
}

bool HddmW::take(double x) noexcept {
  all_.add(x, weight_);
  const double eps = mcdiarmid(all_.bound, log_drift_);
  if (all_.value + eps < rise_cut_) {
    rise_cut_ = all_.value + eps;
    rise_before_ = all_;
    rise_after_ = {};
  } else {
    rise_after_.add(x, weight_);
  }
  bool alarm = exceeds(rise_before_, rise_after_, log_drift_);
  warning_detected_ = !alarm && exceeds(rise_before_, rise_after_, log_warning_);
  if (all_.value - eps > fall_cut_) {
    fall_cut_ = all_.value - eps;
    fall_before_ = all_;
    fall_after_ = {};
  } else {
    fall_after_.add(x, weight_);
  }
  if (two_sided_) {
    if (exceeds(fall_after_, fall_before_, log_drift_)) {
      alarm = true;
    } else if (exceeds(fall_after_, fall_before_, log_warning_)) {
      warning_detected_ = true;
    }
  }
  return alarm;
}

double HddmW::statistic() const noexcept {
  return rise_before_.used && rise_after_.used ? rise_after_.value - rise_before_.value : 0.0;
}

void HddmW::forget() noexcept {
  for (Average* average : {&all_, &rise_before_, &rise_after_, &fall_before_, &fall_after_}) {
    *average = {};
  }
  rise_cut_ = std::numeric_limits<double>::infinity();
  fall_cut_ = -std::numeric_limits<double>::infinity();
  warning_detected_ = false;
}

void HddmW::write(StateWriter& writer) const {
  for (const double value : {drift_confidence_, warning_confidence_, weight_}) writer.f64(value);
  writer.u8(two_sided_ ? 1 : 0);
  for (const Average* average : {&all_, &rise_before_, &rise_after_, &fall_before_, &fall_after_}) {
    average->write(writer);
  }
  writer.f64(rise_cut_);
  writer.f64(fall_cut_);
  writer.u8(warning_detected_ ? 1 : 0);
}

HddmW HddmW::read(StateReader& reader) {
  const double drift = reader.f64();
  const double warning = reader.f64();
  const double weight = reader.f64();
  StateReader::require(
      is_confidence(drift) && is_confidence(warning) && weight >= 0.0 && weight <= 1.0,
      "parameters out of range");
  HddmW detector(drift, warning, weight, reader.u8() != 0, false);
  for (Average* average : {&detector.all_, &detector.rise_before_, &detector.rise_after_,
                           &detector.fall_before_, &detector.fall_after_}) {
    average->read(reader);
  }
  detector.rise_cut_ = reader.f64();
  detector.fall_cut_ = reader.f64();
  detector.warning_detected_ = reader.u8() != 0;
  return detector;
}

}  // namespace selfheal
