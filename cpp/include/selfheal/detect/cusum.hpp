#pragma once

#include "selfheal/detect/sided_chart.hpp"

namespace selfheal {

/// Tabular CUSUM (Page 1954) against a fixed mean and standard deviation; the recurrence, the
/// numbers it gives and their units are in sided_chart.hpp, with allowance = k and threshold = h.
///
/// k: the reference value, in standard deviations, >= 0; half the shift to be found fastest.
/// h: the decision interval, in standard deviations, > 0; cusum_threshold() gives it for a wanted
/// mean time between false alarms.
class Cusum : public SidedChart {
 public:
  Cusum(double mean, double std, double k, double h, Sides sides = Sides::kBoth,
        bool track_onset = true, bool latch = false);

  double k() const noexcept { return allowance(); }
  double h() const noexcept { return threshold(); }
  std::size_t memory_bytes() const noexcept { return sizeof *this + tracker_bytes(); }

  std::vector<std::byte> state() const;
  static Cusum from_state(std::span<const std::byte> blob);

 private:
  explicit Cusum(StateReader& reader) : SidedChart(reader) {}
};
static_assert(sizeof(Cusum) <= 128);

}  // namespace selfheal
