#pragma once

// One update of a MonitorBank's scores and charts: one function per instruction set, all with the
// same results to the bit.

#include <cstddef>
#include <span>

#include "selfheal/detect/bank_lanes.hpp"
#include "selfheal/detect/reference.hpp"

namespace selfheal::detail {

struct BankStepResult {
  bool any_alarm;    // a sum or count is above its limit
  bool any_skipped;  // a value was not finite
};

// One update of all signals: `references` and `preparations` of the regime, `inputs` receives every
// y once more.
using BankStep = BankStepResult (*)(const double* row, std::size_t signals,
                                    const Reference* references,
                                    const BankPreparation* preparations, BankLanes* lanes,
                                    SignalCharts* charts, double* inputs) noexcept;

BankStepResult bank_step_portable(const double* row, std::size_t signals,
                                  const Reference* references, const BankPreparation* preparations,
                                  BankLanes* lanes, SignalCharts* charts, double* inputs) noexcept;
BankStepResult bank_step_avx2(const double* row, std::size_t signals, const Reference* references,
                              const BankPreparation* preparations, BankLanes* lanes,
                              SignalCharts* charts, double* inputs) noexcept;

/// Those that this CPU can run, fastest first.
std::span<const BankStep> available_bank_steps() noexcept;

}  // namespace selfheal::detail
