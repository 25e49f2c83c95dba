#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/latch.hpp"
#include "selfheal/detect/onset_tracker.hpp"

namespace selfheal {

/// What the detectors share that learn their reference from the stream itself: counting, skipping,
/// onset, state. They give the alarms of the library they were published in, which comes with a
/// price: the reference follows a slow drift, and how often they are wrong cannot be computed
/// beforehand. For monitoring, take Cusum or MonitorBank.
///
/// latch: a lasting shift is told once (Latch); needs track_onset.
///
/// The update after an alarm starts all over with that sample as the first, unless Derived says
/// kRestarts = false. NaN and infinities change nothing, are counted, and never alarm.
///
/// Derived has: kTag, kRestarts; bool take(double) noexcept; void forget() noexcept;
/// void write(StateWriter&) const; static Derived read(StateReader&).
/// Nothing allocates after construction. One object, one thread.
template <typename Derived>
class LearningDetector {
 public:
  /// Takes one sample; true if it raises the alarm.
  bool update(double x) noexcept {
    if (drift_detected_) restart();
    const std::uint64_t index = count_++;
    if (!std::isfinite(x)) [[unlikely]] {
      ++skipped_;
      drift_detected_ = false;
      return false;
    }
    if (tracker_) {
      if (tracker_->count() == 0) first_ = x;
      tracker_->push_unknown(x - first_, index);
    }
    drift_detected_ = self().take(x);
    if (drift_detected_) [[unlikely]]
      is_told_ = !latch_.is_on() || tell();
    return drift_detected();
  }

  /// Equals one update per sample; calls on_alarm(position in `samples`) for every alarm.
  template <typename T, typename OnAlarm>
  void update_many(std::span<const T> samples, OnAlarm&& on_alarm) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (update(static_cast<double>(samples[i]))) on_alarm(i);
    }
  }

  /// Whether the last update raised the alarm.
  bool drift_detected() const noexcept { return drift_detected_ && is_told_; }
  /// Whether a lasting shift was told, and goes on; false without `latch`.
  bool is_latched() const noexcept { return latch_.holds(count_ - skipped_, kNoScale); }
  /// Takes what is now for normal: learns anew from the next sample on.
  void accept() noexcept {
    drift_detected_ = false;
    latch_.clear();
    self().forget();
    if (tracker_) tracker_->restart(count_);
  }
  /// When the mean changed, if it did once since the last start, and by how many standard
  /// deviations: from the likelihood ratio of two normal samples. Empty without a tracker.
  Onset change() const noexcept { return tracker_ ? tracker_->since_unknown(0) : Onset{}; }
  /// Of change(), while the alarm stands; -1 and 0 otherwise.
  std::int64_t onset() const noexcept { return drift_detected() ? change().estimate : -1; }
  std::int64_t onset_earliest() const noexcept { return drift_detected() ? change().earliest : -1; }
  double magnitude() const noexcept { return drift_detected() ? std::fabs(change().shift) : 0.0; }
  int direction() const noexcept {
    const double shift = drift_detected() ? change().shift : 0.0;
    return (shift > 0.0) - (shift < 0.0);
  }
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t skipped() const noexcept { return skipped_; }

  /// Back to how it was constructed.
  void reset() noexcept {
    count_ = 0;
    skipped_ = 0;
    drift_detected_ = false;
    latch_.clear();
    first_ = 0.0;
    self().forget();
    if (tracker_) tracker_->restart(0);
  }

  std::vector<std::byte> state() const {
    StateWriter writer(Derived::kTag, 2);
    static_cast<const Derived&>(*this).write(writer);
    writer.f64(first_);
    writer.u8(drift_detected_ ? 1 : 0);
    writer.u8(tracker_ ? 1 : 0);
    writer.u64(count_);
    writer.u64(skipped_);
    writer.u8(is_told_ ? 1 : 0);
    latch_.write(writer);
    if (tracker_) tracker_->write(writer);
    return std::move(writer).finish();
  }

  /// most_bytes: what the detector may take beside four times its state.
  static Derived from_state(std::span<const std::byte> blob, std::size_t most_bytes = kStateBytes) {
    StateReader reader(blob, Derived::kTag, 2, most_bytes);
    Derived detector = Derived::read(reader);
    detector.first_ = reader.f64();
    detector.drift_detected_ = reader.u8() != 0;
    detector.tracker_ = reader.u8() != 0 ? std::make_unique<OnsetTracker>() : nullptr;
    detector.count_ = reader.u64();
    detector.skipped_ = reader.u64();
    StateReader::require(detector.skipped_ <= detector.count_, "more samples skipped than seen");
    if (reader.version() >= 2) {
      detector.is_told_ = reader.u8() != 0;
      detector.latch_.read(reader, detector.count_ - detector.skipped_);
      StateReader::require(!detector.latch_.is_on() || detector.tracker_, "a latch without onset");
    }
    if (detector.tracker_) detector.tracker_->read(reader);
    reader.finish();
    return detector;
  }

 protected:
  LearningDetector(bool track_onset, bool latch) : latch_(latch) {
    if (latch && !track_onset)
      refuse("latch", "false without track_onset", std::string_view("true"));
    if (track_onset) tracker_ = std::make_unique<OnsetTracker>();
  }
  std::size_t tracker_bytes() const noexcept { return tracker_ ? sizeof *tracker_ : 0; }

 private:
  static constexpr double kNoScale = std::numeric_limits<double>::quiet_NaN();

  bool tell() noexcept {
    const Onset onset = tracker_->since_unknown(0);
    return latch_.tell(onset.shift < 0.0 ? -1 : 1, count_ - skipped_, kNoScale, onset.ago(count_),
                       onset.shift);
  }
  Derived& self() noexcept { return static_cast<Derived&>(*this); }
  void restart() noexcept {
    drift_detected_ = false;
    if constexpr (Derived::kRestarts) {
      self().forget();
      if (tracker_) tracker_->restart(count_);
    }
  }

  double first_ = 0.0;  // what the tracker measures from, so that large means lose no digits
  std::uint64_t count_ = 0;
  std::uint64_t skipped_ = 0;
  std::unique_ptr<OnsetTracker> tracker_;
  Latch latch_;
  bool drift_detected_ = false;
  bool is_told_ = true;  // of what drift_detected_ says
};

/// A mean as river's and frouros' recurrences keep it; part of several detectors' states.
struct RunningMean {
  double count = 0.0;
  double mean = 0.0;

  /// river: by the reciprocal of the count.
  void add(double x) noexcept {
    count += 1.0;
    mean += (1.0 / count) * (x - mean);
  }
  /// frouros: by the count.
  void add_divided(double x) noexcept {
    count += 1.0;
    mean += (x - mean) / count;
  }
  void write(StateWriter& writer) const {
    writer.f64(count);
    writer.f64(mean);
  }
  void read(StateReader& reader) {
    count = reader.f64();
    mean = reader.f64();
  }
};

}  // namespace selfheal
