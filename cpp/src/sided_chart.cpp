#include "selfheal/sided_chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "selfheal/argument_error.hpp"

namespace selfheal {

namespace {

// `yes` where `value`, which is never negative, is zero. On its bits, since compilers make a branch
// of a comparison here, and whether a sum is zero is nothing that a processor can predict.
std::uint64_t if_zero(double value, std::uint64_t yes, std::uint64_t no) noexcept {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits == 0 ? yes : no;
}

}  // namespace

// In this file rather than in the header, so that it is compiled with our floating-point flags.
// The loop is bound by the latency of one addition and one maximum a sample: its four variables
// stay in registers, and nothing else in it depends on the sample before.
template <typename T>
inline std::size_t SidedChart::take_until_alarm(std::span<const T> samples) noexcept {
  if (samples.empty()) return 0;
  if (drift_detected_) restart();
  // A side that is not in use falls without end, so it stays at zero.
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const double allowance_up = sides_ == Sides::kLower ? kNever : allowance_;
  const double allowance_down = sides_ == Sides::kUpper ? kNever : allowance_;
  const double mean = mean_;
  const double reciprocal_std = reciprocal_std_;
  const double threshold = threshold_;
  std::size_t taken = 0;
  while (taken < samples.size() && !drift_detected_) {
    double up = upper_.value;
    double down = lower_.value;
    std::uint64_t up_start = upper_.start;
    std::uint64_t down_start = lower_.start;
    bool is_finite = true;
    while (taken < samples.size()) {
      const auto x = static_cast<double>(samples[taken]);
      ++taken;
      is_finite = std::isfinite(x);
      if (!is_finite) [[unlikely]]
        break;
      const double z = (x - mean) * reciprocal_std;
      up = std::max(0.0, up + (z - allowance_up));
      down = std::max(0.0, down + (-z - allowance_down));
      up_start = if_zero(up, count_ + taken, up_start);
      down_start = if_zero(down, count_ + taken, down_start);
      if (std::max(up, down) > threshold) [[unlikely]] {
        drift_detected_ = true;
        break;
      }
    }
    upper_.value = up;
    lower_.value = down;
    upper_.start = up_start;
    lower_.start = down_start;
    if (!is_finite) {
      ++skipped_;
      skip(upper_, count_ + taken - 1);
      skip(lower_, count_ + taken - 1);
    }
  }
  count_ += taken;
  return taken;
}

void SidedChart::restart() noexcept {
  upper_ = Sum{};
  lower_ = Sum{};
  upper_.start = count_;
  lower_.start = count_;
  drift_detected_ = false;
}

void SidedChart::skip(Sum& sum, std::uint64_t index) noexcept {
  if (sum.value == 0.0) {
    sum.start = index + 1;
    return;
  }
  if (sum.gaps_since != sum.start) sum.gaps = 0;
  sum.gaps_since = sum.start;
  ++sum.gaps;
}

bool SidedChart::update(double x) noexcept {
  take_until_alarm(std::span<const double>(&x, 1));
  return drift_detected_;
}

std::size_t SidedChart::advance(std::span<const float> samples) noexcept {
  return take_until_alarm(samples);
}

std::size_t SidedChart::advance(std::span<const double> samples) noexcept {
  return take_until_alarm(samples);
}

SidedChart::SidedChart(double mean, double std, double allowance, double threshold, Sides sides,
                       std::string_view allowance_name, std::string_view threshold_name)
    : mean_(mean),
      std_(std),
      reciprocal_std_(1.0 / std),
      allowance_(allowance),
      threshold_(threshold),
      sides_(sides) {
  require_finite("mean", mean);
  require_positive("std", std);
  require_not_negative(allowance_name, allowance);
  require_positive(threshold_name, threshold);
}

void SidedChart::reset() noexcept {
  count_ = 0;
  skipped_ = 0;
  restart();
}

void SidedChart::write(StateWriter& writer) const {
  for (const double value : {mean_, std_, allowance_, threshold_}) writer.f64(value);
  writer.u8(static_cast<std::uint8_t>(sides_));
  writer.u8(drift_detected_ ? 1 : 0);
  writer.u64(count_);
  writer.u64(skipped_);
  for (const Sum& sum : {upper_, lower_}) {
    writer.f64(sum.value);
    writer.u64(sum.start);
    writer.u64(sum.gaps_since == sum.start ? sum.gaps : 0);
  }
}

SidedChart::SidedChart(StateReader& reader)
    : mean_(reader.f64()),
      std_(reader.f64()),
      reciprocal_std_(1.0 / std_),
      allowance_(reader.f64()),
      threshold_(reader.f64()),
      sides_(Sides::kBoth) {
  const auto is_positive = [](double value) {
    return std::isfinite(value) && value >= std::numeric_limits<double>::min();
  };
  StateReader::require(std::isfinite(mean_) && is_positive(std_) && std::isfinite(allowance_) &&
                           allowance_ >= 0.0 && is_positive(threshold_),
                       "parameters out of range");
  const std::uint8_t sides = reader.u8();
  StateReader::require(sides <= static_cast<std::uint8_t>(Sides::kLower), "unknown sides");
  sides_ = static_cast<Sides>(sides);
  drift_detected_ = reader.u8() != 0;
  count_ = reader.u64();
  skipped_ = reader.u64();
  StateReader::require(skipped_ <= count_, "more samples skipped than seen");
  for (Sum* sum : {&upper_, &lower_}) {
    sum->value = reader.f64();
    sum->start = reader.u64();
    sum->gaps = reader.u64();
    sum->gaps_since = sum->start;
    StateReader::require(sum->value >= 0.0 && sum->start <= count_ &&
                             sum->gaps <= count_ - sum->start &&
                             (sum->value == 0.0 || sum->gaps < count_ - sum->start),
                         "a sum out of range");
  }
}

}  // namespace selfheal
