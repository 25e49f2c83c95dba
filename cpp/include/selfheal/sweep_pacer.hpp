#pragma once

#include <algorithm>
#include <cstddef>

namespace selfheal {

/// How much of a sweep is due before an inference, so that a round takes a bounded time where
/// inferences come often, and a bounded number of inferences where they are rare.
///
/// No clock of its own, no allocation. One object, one thread.
class SweepPacer {
 public:
  /// least_bytes: due at every call. seconds: in which a round shall be complete, 0 for no such
  /// pace. most: the share of a round that may be due at once, above 0 and at most 1.
  SweepPacer(std::size_t least_bytes, double seconds, double most) noexcept
      : least_bytes_(least_bytes), seconds_(seconds), most_(most) {}

  /// To be called before an inference. now: seconds of a clock; one that jumps back is due nothing.
  void tick(double now) noexcept {
    share_ = 0.0;
    if (!(seconds_ > 0.0) || now == last_) return;
    if (last_ >= 0.0) share_ = std::clamp((now - last_) / seconds_, 0.0, most_);
    last_ = now;
  }
  /// Bytes that are due since the last tick() of a round of `round_bytes`.
  std::size_t due(std::size_t round_bytes) const noexcept {
    const auto paced = static_cast<std::size_t>(share_ * static_cast<double>(round_bytes));
    return least_bytes_ + paced;
  }
  bool is_idle() const noexcept { return least_bytes_ == 0 && share_ == 0.0; }

 private:
  std::size_t least_bytes_;
  double seconds_;
  double most_;
  double last_ = -1.0;
  double share_ = 0.0;
};

}  // namespace selfheal
