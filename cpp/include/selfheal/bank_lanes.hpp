#pragma once

#include <cstddef>

#include "selfheal/bank_charts.hpp"

/// What MonitorBank keeps of its signals, four beside each other, so that a vector takes several.
namespace selfheal::detail {

/// Charts and thresholds of four signals.
struct alignas(32) BankLanes {
  static constexpr std::size_t kLanes = 4;

  double score[kLanes];   ///< of the last value; NaN if there was none
  double before[kLanes];  ///< clipped score of the last value that was not skipped
  double input[kLanes];   ///< y of the last update; 0 of a skipped value
  double sum[BankCharts::kSides][BankCharts::kAllowances][kLanes];
  double count[BankCharts::kSides][kLanes];  ///< of far samples, a whole number
  double limit[BankCharts::kSides][BankCharts::kAllowances][kLanes];
  double cut[BankCharts::kSides][kLanes];
  double rise[BankCharts::kSides][kLanes];
  double count_limit[BankCharts::kSides][kLanes];
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
