#pragma once

#include "selfheal/detect/sided_chart.hpp"

namespace selfheal {

/// Hinkley's cumulative sum test (1971) against a fixed mean and standard deviation:
///
///     U_n = sum of (z_i - delta), alarm when U_n - min(U_0 .. U_n) > threshold
///
/// and the mirror image for falls. U itself runs away by delta a sample and would lose its digits,
/// so what is kept is the difference, which is the recurrence of sided_chart.hpp with allowance =
/// delta: the same to rounding, and as exact after 1e9 samples as after ten. With this reference it
/// is therefore the tabular CUSUM with k = delta; it stands here under the name, and with the
/// parameters, by which the drift literature knows it.
///
/// delta: tolerated shift, in standard deviations, >= 0. (Hinkley writes delta / 2 for it.)
/// threshold: in standard deviations, > 0.
class PageHinkley : public SidedChart {
 public:
  PageHinkley(double mean, double std, double delta, double threshold, Sides sides = Sides::kBoth,
              bool track_onset = true, bool latch = false);

  double delta() const noexcept { return allowance(); }
  double threshold() const noexcept { return SidedChart::threshold(); }
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

  std::vector<std::byte> state() const;
  static PageHinkley from_state(std::span<const std::byte> blob);

 private:
  explicit PageHinkley(StateReader& reader) : SidedChart(reader) {}
};
static_assert(sizeof(PageHinkley) <= 128);

}  // namespace selfheal
