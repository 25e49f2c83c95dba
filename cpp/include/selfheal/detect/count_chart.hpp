#pragma once

#include <cstdint>

/// Counting charts on an event that comes in runs, as a label does that a camera sees for a while.
///
/// The event is a chain of two states: it begins after a sample without with probability `begin`,
/// and goes on after one with it with probability `stay`; independent samples have both equal. A
/// rising chart adds rise.begin for the first sample of a run and rise.stay for each further one,
/// and takes 1 off, not below 0, for a sample without the event; a falling one takes these off, not
/// below 0, and adds 1 for a sample without. Either alarms above its limit. With the weights of
/// log likelihood ratios in units of what a sample without the event says, that is the CUSUM for a
/// change of the event's share (Page 1954), of a chain in place of independent samples.
///
/// Both charts move by one at a time to one side, so that their run lengths follow exactly from
/// those of the levels above, or below, in one pass: no approximation, no matrix.
namespace selfheal {

struct EventChain {
  double begin = 0.0;
  double stay = 0.0;

  double share() const noexcept { return begin / (begin + 1.0 - stay); }
  /// The correlation of a sample with the next one, and what it makes of the variance of a sum.
  double memory() const noexcept { return stay - begin; }
  double inflation() const noexcept { return (1.0 + memory()) / (1.0 - memory()); }
  static EventChain of(double share, double memory) noexcept {
    return {share * (1.0 - memory), share + memory * (1.0 - share)};
  }
};

struct CountChart {
  static constexpr std::uint32_t kMostWeight = 511;
  static constexpr std::uint32_t kMostLevels = 32768;

  std::uint32_t begin = 0;  ///< 1 to kMostWeight
  std::uint32_t stay = 0;   ///< 0 to kMostWeight
  std::uint32_t limit = 0;  ///< 0: left out, it never alarms

  friend bool operator==(const CountChart&, const CountChart&) = default;
};

/// Log of the mean number of samples until a chart alarms that starts at 0, without the event.
/// Cost: limit steps of about 50 ns. No allocation.
double log_rising_run(const EventChain& chain, const CountChart& chart) noexcept;
double log_falling_run(const EventChain& chain, const CountChart& chart) noexcept;

/// Solves for the limit that gives `log_run`; weights for odds that are `times` as large, or as
/// small. Left out where no limit up to kMostLevels does, or the chart would not come back to 0.
CountChart solve_rising(const EventChain& chain, double times, double log_run) noexcept;
CountChart solve_falling(const EventChain& chain, double times, double log_run) noexcept;

}  // namespace selfheal
