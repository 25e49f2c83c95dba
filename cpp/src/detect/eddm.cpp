#include "selfheal/detect/eddm.hpp"

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

Eddm::Eddm(double warm_start, double alpha, double beta, bool track_onset, bool latch)
    : LearningDetector(track_onset, latch), warm_start_(warm_start), alpha_(alpha), beta_(beta) {
  require_not_negative("warm_start", warm_start);
  require_finite("alpha", alpha);
  require_finite("beta", beta);
  if (alpha < beta) refuse("alpha", "at least beta", alpha);
}

bool Eddm::take(double x) noexcept {
  samples_ += 1.0;
  if (x != 1.0) return false;
  bool alarm = false;
  errors_ += 1.0;
  const double distance = samples_ - last_error_;
  const double before = distances_.mean;
  distances_.add(distance);
  squares_ += (distance - before) * (distance - distances_.mean);
  if (samples_ > warm_start_) {
    const double n = distances_.count;
    const double variance = n > 1.0 ? squares_ / (n - 1.0) : 0.0;
    const double reach = distances_.mean + 2.0 * std::pow(variance, 0.5);
    if (reach > largest_) {
      largest_ = reach;
    } else if (errors_ > warm_start_) {
      level_ = reach / largest_;
      alarm = level_ < beta_;
      if (!alarm) warning_detected_ = level_ < alpha_;
    }
  }
  last_error_ = samples_;
  return alarm;
}

void Eddm::forget() noexcept {
  distances_ = {};
  squares_ = 0.0;
  samples_ = 0.0;
  errors_ = 0.0;
  last_error_ = 0.0;
  largest_ = -1.0;
  level_ = 1.0;
  warning_detected_ = false;
}

void Eddm::write(StateWriter& writer) const {
  for (const double value : {warm_start_, alpha_, beta_}) writer.f64(value);
  distances_.write(writer);
  for (const double value : {squares_, samples_, errors_, last_error_, largest_, level_}) {
    writer.f64(value);
  }
  writer.u8(warning_detected_ ? 1 : 0);
}

Eddm Eddm::read(StateReader& reader) {
  const double warm_start = reader.f64();
  const double alpha = reader.f64();
  const double beta = reader.f64();
  StateReader::require(warm_start >= 0.0 && std::isfinite(warm_start) && std::isfinite(alpha) &&
                           std::isfinite(beta) && alpha >= beta,
                       "parameters out of range");
  Eddm detector(warm_start, alpha, beta, false);
  detector.distances_.read(reader);
  for (double* value : {&detector.squares_, &detector.samples_, &detector.errors_,
                        &detector.last_error_, &detector.largest_, &detector.level_}) {
    *value = reader.f64();
  }
  detector.warning_detected_ = reader.u8() != 0;
  return detector;
}

}  // namespace selfheal
