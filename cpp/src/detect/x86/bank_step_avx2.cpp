#include "detect/bank_step_kernel.hpp"

namespace selfheal::detail {

BankStepResult bank_step_avx2(const double* row, std::size_t signals, const Reference* references,
                              const BankPreparation* preparations, BankLanes* lanes,
                              SignalCharts* charts, double* inputs) noexcept {
  return bank_step(row, signals, references, preparations, lanes, charts, inputs);
}

}  // namespace selfheal::detail
