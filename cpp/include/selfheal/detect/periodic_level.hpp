#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// What of a signal follows from the time of day, of the week, or of any other period that is
/// named: taken out before a chart looks at it.
///
/// Each period p has a level for each of its p places: the median (of two, the mean) of the samples
/// there, less what the other periods explain, smoothed over neighbouring places of the circle. How
/// many neighbours is chosen by cross-validation over whole cycles, from none (a job at one minute
/// of the hour) to all (the period explains nothing, and then it takes nothing out). The shortest
/// period has a spread for each place as well: counts scatter more by day than by night.
///
/// The place goes on with every sample, whether it is a number or not: a missing sample is a NaN.
/// Fitting allocates; after that nothing does. 8 bytes a place and 8 more for the shortest period.
class PeriodicLevel {
 public:
  static constexpr std::size_t kMost = 4;
  static constexpr std::size_t kLongest = std::size_t{1} << 20;

  /// Takes nothing out.
  PeriodicLevel() = default;
  /// samples: of normal operation in order, not finite where one is missing. periods: up to kMost,
  /// different ones, each at least 2 samples and at most half of the samples and kLongest.
  /// residuals: what is left of each sample by levels that were fitted without it and the cycles
  /// beside it, as new samples will be taken; NaN where it was not finite.
  PeriodicLevel(std::span<const double> samples, std::vector<std::size_t> periods,
                std::vector<double>& residuals);

  bool is_empty() const noexcept { return periods_.empty(); }
  const std::vector<std::size_t>& periods() const noexcept { return periods_; }

  /// What is left of the next sample.
  double take(double x) noexcept {
    double level = 0.0;
    for (std::size_t i = 0; i < periods_.size(); ++i) {
      level += levels_[i][places_[i]];
    }
    const double left = (x - level - centre_) * weights_[places_[0]] + centre_;
    for (std::size_t i = 0; i < periods_.size(); ++i) {
      if (++places_[i] == periods_[i]) places_[i] = 0;
    }
    return left;
  }

  std::size_t memory_bytes() const noexcept;
  void write(StateWriter& writer) const;
  static PeriodicLevel read(StateReader& reader);

 private:
  std::vector<std::size_t> periods_;         // increasing
  std::vector<std::vector<double>> levels_;  // by period and place
  std::vector<double> weights_;      // by place of the shortest: usual spread over that there
  std::vector<std::size_t> places_;  // of the next sample
  double centre_ = 0.0;
};

}  // namespace selfheal
