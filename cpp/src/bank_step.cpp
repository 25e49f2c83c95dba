#include "bank_step_kernel.hpp"

namespace selfheal::detail {

BankStepResult bank_step_portable(const double* row, std::size_t signals,
                                  const Reference* references, const BankPreparation* preparations,
                                  BankLanes* lanes, double* inputs) noexcept {
  return bank_step(row, signals, references, preparations, lanes, inputs);
}

}  // namespace selfheal::detail
