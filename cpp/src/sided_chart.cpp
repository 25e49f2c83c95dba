#include "selfheal/sided_chart.hpp"

#include <cmath>
#include <limits>

#include "selfheal/argument_error.hpp"

namespace selfheal {

// In this file rather than in the header, so that it is compiled with our floating-point flags.
template <typename T>
inline std::size_t SidedChart::take_until_alarm(std::span<const T> samples) noexcept {
  if (samples.empty()) return 0;
  if (drift_detected_) {
    upper_ = Sum{};
    lower_ = Sum{};
    drift_detected_ = false;
  }
  const auto add = [](Sum& sum, double step, std::uint64_t index) {
    const double next = sum.value + step;
    const bool above = next > 0.0;
    sum.value = above ? next : 0.0;
    sum.start = sum.run == 0 ? index : sum.start;
    sum.run = above ? sum.run + 1 : 0;
  };
  Sum upper = upper_;
  Sum lower = lower_;
  std::size_t taken = 0;
  while (taken < samples.size()) {
    const auto x = static_cast<double>(samples[taken]);
    const std::uint64_t index = count_ + taken;
    ++taken;
    if (!std::isfinite(x)) {
      ++skipped_;
      continue;
    }
    const double z = (x - mean_) * reciprocal_std_;
    if (sides_ != Sides::kLower) add(upper, z - allowance_, index);
    if (sides_ != Sides::kUpper) add(lower, -z - allowance_, index);
    if (upper.value > threshold_ || lower.value > threshold_) {
      drift_detected_ = true;
      break;
    }
  }
  upper_ = upper;
  lower_ = lower;
  count_ += taken;
  return taken;
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
  upper_ = Sum{};
  lower_ = Sum{};
  count_ = 0;
  skipped_ = 0;
  drift_detected_ = false;
}

void SidedChart::write(StateWriter& writer) const {
  for (const double value : {mean_, std_, allowance_, threshold_}) writer.f64(value);
  writer.u8(static_cast<std::uint8_t>(sides_));
  writer.u8(drift_detected_ ? 1 : 0);
  writer.u64(count_);
  writer.u64(skipped_);
  for (const Sum& sum : {upper_, lower_}) {
    writer.f64(sum.value);
    writer.u64(sum.run);
    writer.u64(sum.start);
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
    sum->run = reader.u64();
    sum->start = reader.u64();
    StateReader::require(sum->value >= 0.0 && sum->run <= count_ && sum->start <= count_,
                         "a sum out of range");
  }
}

}  // namespace selfheal
