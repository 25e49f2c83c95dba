#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// Tells a lasting shift once.
///
/// A detector starts afresh after every alarm, so it alarms again and again while a shift lasts.
/// Behind a latch the first of these alarms is raised, one on either side, and the others are held
/// back until the shift has ended. With S the sum of the n standardised samples since the latest
/// alarm, and d half the shift that was told (an estimate at an alarm is rather too large), that is
/// when n >= kLeast and the log likelihood ratio of a mean d against 0, d S - n d^2 / 2, is below
/// -kEvidence; and, for what leaves the mean alone, when n reaches kTimes the longest time that an
/// alarm of this shift took. The first took as long as its onset lies back. Shifts too small for
/// the detector are found by chance, after times that vary like an exponential distribution's; of
/// them a few may be told again.
///
/// At an alarm the samples before its own onset are judged alone as well: a shift that had ended
/// and is back has ended, however strongly it is back. While a shift of 2 d or more lasts, the
/// ratio falls below -kEvidence at some n with a probability of at most exp(-kEvidence) (Ville), so
/// looking at one n that is chosen afterwards tells no shift again more often than that.
///
/// The detector goes on as without a latch, at no cost between alarms. 32 bytes.
class Latch {
 public:
  /// Samples without alarm after which a shift has ended at the soonest.
  static constexpr std::uint64_t kLeast = 64;
  static constexpr std::uint64_t kTimes = 8;
  static constexpr double kEvidence = 7.0;

  explicit Latch(bool is_on = false) noexcept : is_on_(is_on) {}

  bool is_on() const noexcept { return is_on_; }

  /// How far the samples before an alarm's onset go.
  struct Before {
    std::uint64_t used;
    double sum;
  };

  /// Hears an alarm on one side (+1, -1; 0: unknown); true if it is to be raised. used: samples
  /// that the detector has taken since its start, skipped ones not counted; sum: S, NaN where
  /// samples have no known scale. took: samples since the change began; shift: its size; before:
  /// both at its onset, where that is known.
  bool tell(int side, std::uint64_t used, double sum, std::uint64_t took, double shift,
            std::optional<Before> before = std::nullopt) noexcept {
    if (!is_on_) return true;
    const bool goes_on =
        holds(used, sum) && (!before || before->used < latest_ || holds(before->used, before->sum));
    longest_ = goes_on ? std::max(longest_, used - latest_) : took;
    if (!goes_on) told_ = 0;
    latest_ = used;
    // The estimates of one shift vary; the least of them is the safest to have left.
    if (!goes_on || half_ * shift <= 0.0 || std::fabs(shift) < 2.0 * std::fabs(half_)) {
      half_ = 0.5 * shift;
    }
    const auto bit = static_cast<std::uint8_t>(side < 0 ? 2 : 1);
    const bool is_news = (told_ & bit) == 0;
    told_ |= bit;
    return is_news;
  }

  /// Whether a shift was told that has not ended.
  bool holds(std::uint64_t used, double sum) const noexcept {
    const std::uint64_t quiet = used - latest_;
    if (told_ == 0) return false;
    if (quiet < kLeast) return true;
    // Not if the sum is NaN.
    if (half_ * (sum - 0.5 * half_ * static_cast<double>(quiet)) < -kEvidence) return false;
    return quiet / kTimes < longest_;
  }

  /// Judges what was taken so far, since the detector's sum starts at zero now: a shift that has
  /// ended is forgotten, and of one that goes on what speaks against it is carried on.
  void settle(std::uint64_t used, double sum) noexcept {
    if (!holds(used, sum)) return clear();
    if (half_ == 0.0 || std::isnan(sum)) return;
    // As many samples of mean 0 speak as much against it.
    const auto quiet = static_cast<double>(used - latest_);
    latest_ = used - static_cast<std::uint64_t>(std::clamp(quiet - 2.0 * sum / half_, 0.0, quiet));
  }

  void clear() noexcept { *this = Latch(is_on_); }

  void write(StateWriter& writer) const {
    writer.u8(is_on_ ? 1 : 0);
    writer.u8(told_);
    writer.u64(longest_);
    writer.u64(latest_);
    writer.f64(half_);
  }
  /// used: as tell() would be given now.
  void read(StateReader& reader, std::uint64_t used) {
    is_on_ = reader.u8() != 0;
    told_ = reader.u8();
    longest_ = reader.u64();
    latest_ = reader.u64();
    half_ = reader.f64();
    StateReader::require(told_ < 4 && std::isfinite(half_), "a latch out of range");
    // What was told before a reset was written, too, until nothing was left of it there.
    if (told_ == 0) clear();
    StateReader::require(latest_ <= used, "a latch out of range");
  }

 private:
  std::uint64_t longest_ = 0;
  std::uint64_t latest_ = 0;  // `used` at the latest alarm
  double half_ = 0.0;         // of the shift that was estimated there
  bool is_on_;
  std::uint8_t told_ = 0;  // bit 0 up, bit 1 down
};

}  // namespace selfheal
