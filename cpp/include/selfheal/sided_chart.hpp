#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "selfheal/run_length.hpp"
#include "selfheal/state_codec.hpp"

namespace selfheal {

/// What the tabular CUSUM and Hinkley's test share: one or two sums that cannot fall below zero.
///
///     z     = (x - mean) * (1 / std)
///     upper = max(0, upper + (z - allowance))
///     lower = max(0, lower + (-z - allowance))
///     alarm when a side in use > threshold
///
/// The reference never moves. The update after an alarm starts both sums at zero again. NaN and
/// infinities change no sum, are counted, and never alarm. Indices count all updates from 0,
/// skipped ones included.
/// update: O(1), about 3 ns; no allocation, no libm, so that states continue bit for bit on any
/// machine. Bytes: memory_bytes() == sizeof. One object, one thread.
class SidedChart {
 public:
  double mean() const noexcept { return mean_; }
  double std() const noexcept { return std_; }
  Sides sides() const noexcept { return sides_; }

  /// Takes one sample; true if it raises the alarm.
  bool update(double x) noexcept;

  /// Takes samples up to and including the first that raises the alarm; returns how many it took.
  /// drift_detected() tells whether the last one did.
  std::size_t advance(std::span<const float> samples) noexcept;
  std::size_t advance(std::span<const double> samples) noexcept;

  /// Equals one update per sample; calls on_alarm(position in `samples`) for every alarm.
  template <typename T, typename OnAlarm>
  void update_many(std::span<const T> samples, OnAlarm&& on_alarm) {
    for (std::size_t taken = 0; taken < samples.size();) {
      taken += advance(samples.subspan(taken));
      if (drift_detected_) on_alarm(taken - 1);
    }
  }

  /// Whether the last update raised the alarm.
  bool drift_detected() const noexcept { return drift_detected_; }
  /// The larger of the sums in use, in standard deviations; >= 0.
  double statistic() const noexcept { return std::max(upper_.value, lower_.value); }
  double upper() const noexcept { return upper_.value; }
  double lower() const noexcept { return lower_.value; }
  /// The side of the larger sum: +1 up, -1 down, 0 while both are zero.
  int direction() const noexcept {
    if (upper_.value > lower_.value) return 1;
    return lower_.value > 0.0 ? -1 : 0;
  }
  /// Estimated size of the shift, in standard deviations, >= 0: allowance + statistic / samples
  /// since that side was last zero (Montgomery, Introduction to Statistical Quality Control,
  /// eq. 9.6). 0 while both sums are zero.
  double magnitude() const noexcept {
    const Sum& sum = leading();
    const auto run = static_cast<double>(samples_since_zero(sum));
    return sum.value > 0.0 ? allowance_ + sum.value / run : 0.0;
  }
  /// Index of the first sample after that side was last zero, -1 while both are zero. Often later
  /// than the true onset, above all for small shifts; not a bound.
  std::int64_t onset() const noexcept {
    const Sum& sum = leading();
    return sum.value > 0.0 ? static_cast<std::int64_t>(sum.start) : -1;
  }
  /// Updates since construction or reset(), skipped ones included.
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t skipped() const noexcept { return skipped_; }

  /// As new: sums, counters and alarm.
  void reset() noexcept;

 protected:
  /// Throws for a mean that is not finite or a std, threshold or allowance out of range.
  SidedChart(double mean, double std, double allowance, double threshold, Sides sides,
             std::string_view allowance_name, std::string_view threshold_name);
  explicit SidedChart(StateReader& reader);
  void write(StateWriter& writer) const;

  double allowance() const noexcept { return allowance_; }
  double threshold() const noexcept { return threshold_; }

 private:
  struct Sum {
    double value = 0.0;
    std::uint64_t start = 0;  // index of the first sample after the value was last zero
    // Samples skipped since a start; stale, and to be read as 0, when it is not this one. So the
    // loop over good samples need not touch it.
    std::uint64_t gaps = 0;
    std::uint64_t gaps_since = 0;
  };

  template <typename T>
  std::size_t take_until_alarm(std::span<const T> samples) noexcept;
  static void skip(Sum& sum, std::uint64_t index) noexcept;
  void restart() noexcept;
  std::uint64_t samples_since_zero(const Sum& sum) const noexcept {
    return count_ - sum.start - (sum.gaps_since == sum.start ? sum.gaps : 0);
  }
  const Sum& leading() const noexcept { return upper_.value > lower_.value ? upper_ : lower_; }

  double mean_;
  double std_;
  double reciprocal_std_;
  double allowance_;
  double threshold_;
  Sum upper_;
  Sum lower_;
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
  Sides sides_;
  bool drift_detected_ = false;
};

}  // namespace selfheal
