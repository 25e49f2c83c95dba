#pragma once

#include <cstddef>

#include "selfheal/detect/bank_charts.hpp"

/// What MonitorBank keeps of its signals, so that a vector takes either four signals' scores or
/// four charts of one signal.
namespace selfheal::detail {

/// The latest scores of four signals.
struct alignas(32) BankLanes {
  static constexpr std::size_t kLanes = 4;

  double score[kLanes];   ///< of the last value; NaN if there was none
  double before[kLanes];  ///< clipped score of the last value that was not skipped
};

/// One signal's charts and thresholds: on either side the sums, then the count of far samples.
struct alignas(32) SignalCharts {
  static constexpr std::size_t kCharts = BankCharts::kAllowances + 1;

  double level[BankCharts::kSides][kCharts];
  double limit[BankCharts::kSides][kCharts];  ///< a level above it is an alarm
  double cut[BankCharts::kSides];             ///< y beyond which a sample is far
  /// What such a sample adds to the count, before the 1 that every sample takes off.
  double raised[BankCharts::kSides];
};

/// How four signals' scores are prepared under one regime.
struct alignas(32) BankPreparation {
  double limit[BankLanes::kLanes];
  double phi[BankLanes::kLanes];
  double sqrt_whitened[BankLanes::kLanes];
  double offset[BankLanes::kLanes];
  double scale[BankLanes::kLanes];
};

}  // namespace selfheal::detail
