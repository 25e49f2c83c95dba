#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

/// How much of a sweep is due before an inference, so that a round takes a bounded time where
/// inferences come often, and a bounded number of inferences where they are rare.
///
/// What is due is gathered until it makes what can be checked at once, so that most inferences of
/// a small model pay nothing but this. No clock of its own, no allocation. One object, one thread.
class SweepPacer {
 public:
  /// least_bytes: due at every call. seconds: in which a round shall be complete, 0 for no such
  /// pace. most: the share of a round that may be due at once, above 0 and at most 1. Throws
  /// std::invalid_argument otherwise.
  SweepPacer(std::uint64_t least_bytes, double seconds, double most)
      : least_bytes_(least_bytes), seconds_(seconds), most_(most) {
    require_not_negative("seconds", seconds);
    if (!(most > 0.0 && most <= 1.0)) refuse("most", "above 0 and at most 1", most);
  }

  /// To be called before an inference; whether it is time to sweep: from `enough` bytes that are
  /// owed, above 0. now: seconds of a clock; one that jumps back is due nothing.
  bool tick(double now, std::uint64_t enough) noexcept {
    owed_ += least_bytes_;
    if (seconds_ > 0.0 && now != last_) {
      if (last_ == last_) share_ = std::clamp(share_ + (now - last_) / seconds_, 0.0, most_);
      last_ = now;
    }
    return owed_ >= enough || share_ > 0.0;
  }
  /// Bytes that are due of a round of `round_bytes`. Beside a longer one of `longest_bytes`, what
  /// is owed is that one's, and the shorter takes as many calls: a byte is due then at least.
  std::uint64_t due(std::uint64_t round_bytes, std::uint64_t longest_bytes = 0) const noexcept {
    std::uint64_t owed = owed_;
    if (round_bytes < longest_bytes && owed != 0) {
      const double share = static_cast<double>(round_bytes) / static_cast<double>(longest_bytes);
      owed = 1 + static_cast<std::uint64_t>(share * static_cast<double>(owed));
    }
    return owed + due_by_time(round_bytes);
  }
  /// The same of a round that time alone paces: a byte at least, so that a short one ends, too.
  std::uint64_t due_by_time(std::uint64_t round_bytes) const noexcept {
    const double due = share_ * static_cast<double>(round_bytes);
    const auto whole = static_cast<std::uint64_t>(due);
    return whole + (static_cast<double>(whole) < due ? 1 : 0);
  }
  /// Takes note that what was due was swept.
  void done() noexcept {
    owed_ = 0;
    share_ = 0.0;
  }

 private:
  std::uint64_t least_bytes_;
  double seconds_;
  double most_;
  double last_ = std::numeric_limits<double>::quiet_NaN();  // before the first call
  double share_ = 0.0;
  std::uint64_t owed_ = 0;  // of a sweep that is put off, more than 32 bits count
};

}  // namespace selfheal
