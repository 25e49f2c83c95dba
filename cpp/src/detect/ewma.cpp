#include "selfheal/detect/ewma.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("EWMA");
constexpr double kLargestScore = 1073741824.0;  // 2^30
constexpr double kSmallestWeight = 1e-3;

}  // namespace

Ewma::Ewma(double mean, double std, double weight, double limit, Sides sides, bool track_onset,
           bool latch)
    : mean_(mean), std_(std), weight_(weight), limit_(limit), latch_(latch), sides_(sides) {
  require_finite("mean", mean);
  require_positive("std", std);
  if (!(weight >= kSmallestWeight && weight <= 1.0)) {
    refuse("weight", "a number from 0.001 to 1", weight);
  }
  require_positive("limit", limit);
  set_limits();
  if (latch && !track_onset) refuse("latch", "false without track_onset", std::string_view("true"));
  if (track_onset) tracker_ = std::make_unique<OnsetTracker>();
}

void Ewma::set_limits() noexcept {
  const double sd = std::sqrt(weight_ / (2.0 - weight_));
  highest_ = (sides_ == Sides::kLower ? kEwmaOpenSide : limit_) * sd;
  lowest_ = -(sides_ == Sides::kUpper ? kEwmaOpenSide : limit_) * sd;
}

bool Ewma::update(double x) noexcept {
  if (drift_detected_) restart();
  const std::uint64_t index = count_++;
  if (!std::isfinite(x)) [[unlikely]] {
    ++skipped_;
    return false;
  }
  const double z = std::clamp((x - mean_) * (1.0 / std_), -kLargestScore, kLargestScore);
  if (tracker_) tracker_->push(z, index);
  average_ += weight_ * (z - average_);
  const bool rose = average_ > highest_;
  const bool fell = average_ < lowest_;
  if (rose && sides_ == Sides::kLower) [[unlikely]] {
    average_ = highest_;
  } else if (fell && sides_ == Sides::kUpper) [[unlikely]] {
    average_ = lowest_;
  } else {
    drift_detected_ = rose || fell;
    if (drift_detected_ && latch_.is_on()) [[unlikely]] {
      const Onset onset = change();
      const std::uint64_t used = count_ - skipped_;
      const std::uint64_t before = used - tracker_->count() + onset.before;
      is_told_ = latch_.tell(direction(), used, tracker_->sum(), onset.ago(count_), onset.shift,
                             Latch::Before{before, onset.sum_before});
    }
  }
  return drift_detected();
}

void Ewma::accept() noexcept {
  const double moved = mean_ + change().shift * std_;
  if (std::isfinite(moved)) mean_ = moved;
  latch_.clear();
  restart();
}

double Ewma::statistic() const noexcept {
  const double scaled = average_ / std::sqrt(weight_ / (2.0 - weight_));
  if (sides_ == Sides::kBoth) return std::fabs(scaled);
  return sides_ == Sides::kUpper ? scaled : -scaled;
}

void Ewma::restart() noexcept {
  average_ = 0.0;
  drift_detected_ = false;
  if (tracker_) tracker_->restart(count_);
}

void Ewma::reset() noexcept {
  count_ = 0;
  skipped_ = 0;
  latch_.clear();
  restart();
}

std::vector<std::byte> Ewma::state() const {
  StateWriter writer(kTag, 2);
  for (const double value : {mean_, std_, weight_, limit_, average_}) writer.f64(value);
  writer.u8(static_cast<std::uint8_t>(sides_));
  writer.u8(drift_detected_ ? 1 : 0);
  writer.u8(tracker_ ? 1 : 0);
  writer.u64(count_);
  writer.u64(skipped_);
  writer.u8(is_told_ ? 1 : 0);
  latch_.write(writer);
  if (tracker_) tracker_->write(writer);
  return std::move(writer).finish();
}

Ewma::Ewma(StateReader& reader)
    : mean_(reader.f64()),
      std_(reader.f64()),
      weight_(reader.f64()),
      limit_(reader.f64()),
      sides_(Sides::kBoth) {
  average_ = reader.f64();
  StateReader::require(std::isfinite(mean_) && std::isfinite(std_) &&
                           std_ >= std::numeric_limits<double>::min() &&
                           weight_ >= kSmallestWeight && weight_ <= 1.0 && limit_ > 0.0 &&
                           std::isfinite(limit_) && std::isfinite(average_),
                       "parameters out of range");
  const std::uint8_t sides = reader.u8();
  StateReader::require(sides <= static_cast<std::uint8_t>(Sides::kLower), "unknown sides");
  sides_ = static_cast<Sides>(sides);
  set_limits();
  drift_detected_ = reader.u8() != 0;
  if (reader.u8() != 0) tracker_ = std::make_unique<OnsetTracker>();
  count_ = reader.u64();
  skipped_ = reader.u64();
  StateReader::require(skipped_ <= count_, "more samples skipped than seen");
  if (reader.version() >= 2) {
    is_told_ = reader.u8() != 0;
    latch_.read(reader, count_ - skipped_);
    StateReader::require(!latch_.is_on() || tracker_ != nullptr, "a latch without onset");
  }
  if (tracker_) tracker_->read(reader);
}

Ewma Ewma::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 2);
  Ewma chart(reader);
  reader.finish();
  return chart;
}

}  // namespace selfheal
