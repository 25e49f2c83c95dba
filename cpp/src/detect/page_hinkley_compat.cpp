#include "selfheal/detect/page_hinkley_compat.hpp"

#include <algorithm>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

RiverPageHinkley::RiverPageHinkley(double min_instances, double delta, double threshold,
                                   double alpha, Sides sides, bool track_onset, bool latch)
    : LearningDetector(track_onset, latch),
      min_instances_(min_instances),
      delta_(delta),
      threshold_(threshold),
      alpha_(alpha),
      sides_(sides) {
  require_not_negative("min_instances", min_instances);
  require_finite("delta", delta);
  require_finite("threshold", threshold);
  require_finite("alpha", alpha);
}

bool RiverPageHinkley::take(double x) noexcept {
  mean_.add(x);
  const double deviation = x - mean_.mean;
  up_ = alpha_ * up_ + deviation - delta_;
  down_ = alpha_ * down_ + deviation + delta_;
  if (up_ < lowest_) lowest_ = up_;
  if (down_ > highest_) highest_ = down_;
  if (mean_.count < min_instances_) return false;
  const bool rose = sides_ != Sides::kLower && up_ - lowest_ > threshold_;
  const bool fell = sides_ != Sides::kUpper && highest_ - down_ > threshold_;
  return rose || fell;
}

double RiverPageHinkley::statistic() const noexcept {
  const double rise = mean_.count > 0.0 ? up_ - lowest_ : 0.0;
  const double fall = highest_ - down_;
  if (sides_ == Sides::kUpper) return rise;
  return sides_ == Sides::kLower ? fall : std::max(rise, fall);
}

void RiverPageHinkley::forget() noexcept {
  mean_ = {};
  up_ = 0.0;
  down_ = 0.0;
  lowest_ = std::numeric_limits<double>::infinity();
  highest_ = -1.0;
}

void RiverPageHinkley::write(StateWriter& writer) const {
  for (const double value : {min_instances_, delta_, threshold_, alpha_}) writer.f64(value);
  writer.u8(static_cast<std::uint8_t>(sides_));
  mean_.write(writer);
  for (const double value : {up_, down_, lowest_, highest_}) writer.f64(value);
}

RiverPageHinkley RiverPageHinkley::read(StateReader& reader) {
  const double min_instances = reader.f64();
  const double delta = reader.f64();
  const double threshold = reader.f64();
  const double alpha = reader.f64();
  const std::uint8_t sides = reader.u8();
  StateReader::require(sides <= static_cast<std::uint8_t>(Sides::kLower), "unknown sides");
  StateReader::require(min_instances >= 0.0 && std::isfinite(min_instances + delta) &&
                           std::isfinite(threshold) && std::isfinite(alpha),
                       "parameters out of range");
  RiverPageHinkley detector(min_instances, delta, threshold, alpha, static_cast<Sides>(sides),
                            false);
  detector.mean_.read(reader);
  for (double* value : {&detector.up_, &detector.down_, &detector.lowest_, &detector.highest_}) {
    *value = reader.f64();
  }
  return detector;
}

FrourosChart::FrourosChart(Kind kind, double min_instances, double delta, double threshold,
                           double alpha, bool track_onset, bool latch)
    : LearningDetector(track_onset, latch),
      kind_(kind),
      min_instances_(min_instances),
      delta_(delta),
      threshold_(threshold),
      alpha_(alpha) {
  require_not_negative("min_instances", min_instances);
  require_not_negative("delta", delta);
  require_not_negative("threshold", threshold);
  require_not_negative("alpha", alpha);
}

bool FrourosChart::take(double x) noexcept {
  mean_.add_divided(x);
  if (kind_ == Kind::kPageHinkley) {
    sum_ = alpha_ * sum_ + (x - mean_.mean - delta_);
  } else {
    const double next = sum_ + x - mean_.mean - delta_;
    sum_ = next > 0.0 || next != next ? next : 0.0;
  }
  return mean_.count >= min_instances_ && sum_ > threshold_;
}

void FrourosChart::forget() noexcept {
  mean_ = {};
  sum_ = 0.0;
}

void FrourosChart::write(StateWriter& writer) const {
  writer.u8(static_cast<std::uint8_t>(kind_));
  for (const double value : {min_instances_, delta_, threshold_, alpha_}) writer.f64(value);
  mean_.write(writer);
  writer.f64(sum_);
}

FrourosChart FrourosChart::read(StateReader& reader) {
  const std::uint8_t kind = reader.u8();
  StateReader::require(kind <= static_cast<std::uint8_t>(Kind::kCusum), "unknown kind");
  const double min_instances = reader.f64();
  const double delta = reader.f64();
  const double threshold = reader.f64();
  const double alpha = reader.f64();
  for (const double value : {min_instances, delta, threshold, alpha}) {
    StateReader::require(std::isfinite(value) && value >= 0.0, "parameters out of range");
  }
  FrourosChart detector(static_cast<Kind>(kind), min_instances, delta, threshold, alpha, false);
  detector.mean_.read(reader);
  detector.sum_ = reader.f64();
  return detector;
}

}  // namespace selfheal
