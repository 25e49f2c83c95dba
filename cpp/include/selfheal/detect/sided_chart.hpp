#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/latch.hpp"
#include "selfheal/detect/onset_tracker.hpp"
#include "selfheal/detect/run_length.hpp"

namespace selfheal {

/// What the tabular CUSUM and Hinkley's test share: one or two sums that cannot fall below zero.
///
///     z     = (x - mean) * (1 / std), rounded to a multiple of 2^-20, at most +-2^30
///     upper = max(0, upper + (z - allowance))
///     lower = max(0, lower + (-z - allowance))
///     alarm when a side in use > threshold
///
/// On that grid every sum is exact, so its order does not matter: a batch, which takes many samples
/// at once, leaves the same state to the bit as one update per sample, on any machine (while
/// cumulative sums stay below 2^33 standard deviations).
///
/// The reference never moves. The update after an alarm starts both sums at zero again. NaN and
/// infinities change no sum, are counted, and never alarm. Indices count all updates from 0,
/// skipped ones included.
///
/// onset(), and magnitude() from it, need an OnsetTracker: 3 KiB, allocated at construction unless
/// refused. latch: a lasting shift is told once (Latch); needs the tracker. Bytes: 120 and the
/// tracker's. update: O(1), about 4 ns; batch: below 1 ns a sample. Nothing allocates after
/// construction; no libm. One object, one thread.
class SidedChart {
 public:
  /// Largest threshold and allowance.
  static constexpr double kLargest = 536870912.0;  // 2^29

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
      if (drift_detected()) on_alarm(taken - 1);
    }
  }

  /// Whether the last update raised the alarm.
  bool drift_detected() const noexcept { return drift_detected_ && is_told_; }
  /// Whether a lasting shift was told, and goes on; false without `latch`.
  bool is_latched() const noexcept {
    return tracker_ && latch_.holds(count_ - skipped_, tracker_->sum());
  }
  /// Takes the level since onset() for normal: mean() moves there, and the sums start at zero. It
  /// is known to 1 / sqrt(samples since the onset) standard deviations.
  void accept() noexcept;
  /// The larger of the sums in use, in standard deviations; >= 0.
  double statistic() const noexcept { return std::max(upper_, lower_); }
  double upper() const noexcept { return upper_; }
  double lower() const noexcept { return lower_; }
  /// The side of the larger sum: +1 up, -1 down, 0 while both are zero.
  int direction() const noexcept {
    if (upper_ > lower_) return 1;
    return lower_ > 0.0 ? -1 : 0;
  }
  /// When and how far direction() was taken, if the mean did move; empty while both sums are zero
  /// and without a tracker.
  Onset change() const noexcept {
    return tracker_ == nullptr || direction() == 0 ? Onset{}
                                                   : tracker_->since_standard(direction());
  }
  /// Of change(): the most likely first sample, its 95 % earliest bound (-1: no answer), and the
  /// size of the shift in standard deviations, >= 0 (0: no answer).
  std::int64_t onset() const noexcept { return change().estimate; }
  std::int64_t onset_earliest() const noexcept { return change().earliest; }
  double magnitude() const noexcept { return std::fabs(change().shift); }
  bool tracks_onset() const noexcept { return tracker_ != nullptr; }
  /// Updates since construction or reset(), skipped ones included.
  std::uint64_t count() const noexcept { return count_; }
  /// Updates with NaN or infinity since construction or reset().
  std::uint64_t skipped() const noexcept { return skipped_; }

  /// Back to how it was constructed.
  void reset() noexcept;

 protected:
  /// Throws for a mean that is not finite or a std, threshold or allowance out of range.
  SidedChart(double mean, double std, double allowance, double threshold, Sides sides,
             bool track_onset, bool latch, std::string_view allowance_name,
             std::string_view threshold_name);
  explicit SidedChart(StateReader& reader);
  void write(StateWriter& writer) const;

  double allowance() const noexcept { return allowance_; }
  double threshold() const noexcept { return threshold_; }
  std::size_t tracker_bytes() const noexcept { return tracker_ ? sizeof *tracker_ : 0; }

 private:
  template <typename T>
  friend class SideBySide;

  template <typename T>
  void refill(const T* latest, std::size_t stride, std::size_t reach) noexcept;
  template <typename T>
  std::size_t take_until_alarm(std::span<const T> samples) noexcept;
  template <typename T>
  std::size_t take_clean(std::span<const T> samples) noexcept;
  template <typename T>
  bool take_run(const T* samples, double& upper, double& lower) noexcept;
  template <typename T>
  std::size_t take_until_told(std::span<const T> samples) noexcept;
  bool tell() noexcept;
  bool take(double z, double up, double down) noexcept;
  double standardised(double x) const noexcept;
  double allowance_for(Sides other) const noexcept;
  void restart() noexcept;

  double mean_;
  double std_;
  double reciprocal_std_;
  double allowance_;
  double threshold_;
  double upper_ = 0.0;
  double lower_ = 0.0;
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
  std::unique_ptr<OnsetTracker> tracker_;
  Latch latch_;
  Sides sides_;
  bool drift_detected_ = false;
  bool is_told_ = true;  // of what drift_detected_ says
};
static_assert(sizeof(SidedChart) <= 128);

}  // namespace selfheal
