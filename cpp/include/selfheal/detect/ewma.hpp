#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/latch.hpp"
#include "selfheal/detect/onset_tracker.hpp"
#include "selfheal/detect/run_length.hpp"

namespace selfheal {

/// Exponentially weighted moving average chart (Roberts 1959) against a fixed mean and standard
/// deviation:
///
///     z = (x - mean) * (1 / std), at most +-2^30
///     e = e + weight * (z - e), from 0
///     alarm when e is beyond limit * sqrt(weight / (2 - weight)) on a side in use
///     a side that is not: e is held at kEwmaOpenSide * sqrt(weight / (2 - weight))
///
/// Were it not held, one wild value on the other side would hide every change for long. The limits
/// are the asymptotic ones from the first sample on, as in Lucas and Saccucci (1990); ewma_limit()
/// gives `limit` for a wanted mean time between false alarms. The update after an alarm starts at 0
/// again. NaN and infinities change nothing, are counted, and never alarm.
///
/// weight: 0.001 to 1, the share of the newest sample: small for small shifts.
/// limit: in asymptotic standard deviations of e, > 0.
/// latch: a lasting shift is told once (Latch); needs track_onset.
/// update: O(1), about 4 ns; a batch equals one update per sample to the bit. Bytes: 128, and 3 KiB
/// for the onset tracker. Nothing allocates after construction. One object, one thread.
class Ewma {
 public:
  Ewma(double mean, double std, double weight, double limit, Sides sides = Sides::kBoth,
       bool track_onset = true, bool latch = false);

  double mean() const noexcept { return mean_; }
  double std() const noexcept { return std_; }
  double weight() const noexcept { return weight_; }
  double limit() const noexcept { return limit_; }
  Sides sides() const noexcept { return sides_; }

  /// Takes one sample; true if it raises the alarm.
  bool update(double x) noexcept;

  /// Equals one update per sample; calls on_alarm(position in `samples`) for every alarm.
  template <typename T, typename OnAlarm>
  void update_many(std::span<const T> samples, OnAlarm&& on_alarm) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (update(static_cast<double>(samples[i]))) on_alarm(i);
    }
  }

  /// Whether the last update raised the alarm.
  bool drift_detected() const noexcept { return drift_detected_ && is_told_; }
  /// As SidedChart's.
  bool is_latched() const noexcept {
    return tracker_ && latch_.holds(count_ - skipped_, tracker_->sum());
  }
  void accept() noexcept;
  /// The average, in its asymptotic standard deviations, on the side that is watched; signed
  /// distance for one side, absolute for both.
  double statistic() const noexcept;
  /// The average itself, in standard deviations of a sample.
  double average() const noexcept { return average_; }
  /// +1 above the mean, -1 below, 0 on it.
  int direction() const noexcept { return (average_ > 0.0) - (average_ < 0.0); }
  /// As SidedChart's.
  Onset change() const noexcept {
    return tracker_ == nullptr || direction() == 0 ? Onset{}
                                                   : tracker_->since_standard(direction());
  }
  std::int64_t onset() const noexcept { return change().estimate; }
  std::int64_t onset_earliest() const noexcept { return change().earliest; }
  double magnitude() const noexcept { return std::fabs(change().shift); }
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t skipped() const noexcept { return skipped_; }
  void reset() noexcept;

  std::size_t memory_bytes() const noexcept {
    return sizeof *this + (tracker_ ? sizeof *tracker_ : 0);
  }
  std::vector<std::byte> state() const;
  static Ewma from_state(std::span<const std::byte> blob);

 private:
  explicit Ewma(StateReader& reader);
  void set_limits() noexcept;
  void restart() noexcept;

  double mean_;
  double std_;
  double weight_;
  double limit_;
  double highest_ = 0.0;  // of average_: beyond it is an alarm, or it is held there
  double lowest_ = 0.0;
  double average_ = 0.0;
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
  std::unique_ptr<OnsetTracker> tracker_;
  Latch latch_;
  Sides sides_;
  bool drift_detected_ = false;
  bool is_told_ = true;  // of what drift_detected_ says
};
static_assert(sizeof(Ewma) <= 128);

}  // namespace selfheal
