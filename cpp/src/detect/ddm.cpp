#include "selfheal/detect/ddm.hpp"

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

Ddm::Ddm(double warm_start, double warning_threshold, double drift_threshold, bool track_onset,
         bool latch)
    : LearningDetector(track_onset, latch),
      warm_start_(warm_start),
      warning_threshold_(warning_threshold),
      drift_threshold_(drift_threshold) {
  require_not_negative("warm_start", warm_start);
  require_finite("warning_threshold", warning_threshold);
  require_finite("drift_threshold", drift_threshold);
}

bool Ddm::take(double x) noexcept {
  errors_.add(x);
  const double p = errors_.mean;
  const double variance = p * (1.0 - p) / errors_.count;
  const double s = variance > 0.0 ? std::sqrt(variance) : 0.0;
  latest_ = p + s;
  if (!(errors_.count > warm_start_)) return false;
  if (latest_ <= smallest_) {
    p_min_ = p;
    s_min_ = s;
    smallest_ = p_min_ + s_min_;
  }
  warning_detected_ = latest_ > p_min_ + warning_threshold_ * s_min_;
  if (!(latest_ > p_min_ + drift_threshold_ * s_min_)) return false;
  warning_detected_ = false;
  return true;
}

double Ddm::statistic() const noexcept {
  return s_min_ > 0.0 && std::isfinite(smallest_) ? (latest_ - p_min_) / s_min_ : 0.0;
}

void Ddm::forget() noexcept {
  errors_ = {};
  p_min_ = 0.0;
  s_min_ = 0.0;
  smallest_ = std::numeric_limits<double>::infinity();
  latest_ = 0.0;
  warning_detected_ = false;
}

void Ddm::write(StateWriter& writer) const {
  for (const double value : {warm_start_, warning_threshold_, drift_threshold_}) writer.f64(value);
  errors_.write(writer);
  for (const double value : {p_min_, s_min_, smallest_, latest_}) writer.f64(value);
  writer.u8(warning_detected_ ? 1 : 0);
}

Ddm Ddm::read(StateReader& reader) {
  const double warm_start = reader.f64();
  const double warning = reader.f64();
  const double drift = reader.f64();
  StateReader::require(warm_start >= 0.0 && std::isfinite(warm_start) && std::isfinite(warning) &&
                           std::isfinite(drift),
                       "parameters out of range");
  Ddm detector(warm_start, warning, drift, false);
  detector.errors_.read(reader);
  for (double* value :
       {&detector.p_min_, &detector.s_min_, &detector.smallest_, &detector.latest_}) {
    *value = reader.f64();
  }
  detector.warning_detected_ = reader.u8() != 0;
  return detector;
}

}  // namespace selfheal
