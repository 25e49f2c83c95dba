#pragma once

#include <array>
#include <cstddef>

namespace selfheal {

/// The charts that MonitorBank keeps on every signal: CUSUMs for slow, middling and fast shifts on
/// either side, and on either side a Bernoulli CUSUM for few, far samples among many normal ones.
struct BankCharts {
  static constexpr std::size_t kAllowances = 3;
  static constexpr std::array<double, kAllowances> kAllowance{0.15, 0.4, 1.2};
  static constexpr std::size_t kSides = 2;  // 0 up, 1 down
  /// One-sided charts a signal.
  static constexpr std::size_t kCharts = kSides * (kAllowances + 1);
};

}  // namespace selfheal
