#include "base/backend_list.hpp"
#include "detect/bank_step_kernel.hpp"

namespace selfheal::detail {

BankStepResult bank_step_portable(const double* row, std::size_t signals,
                                  const Reference* references, const BankPreparation* preparations,
                                  BankLanes* lanes, SignalCharts* charts, double* inputs) noexcept {
  return bank_step(row, signals, references, preparations, lanes, charts, inputs);
}

std::span<const BankStep> available_bank_steps() noexcept {
  using Steps = BackendList<BankStep, 2>;
  static const Steps found = [] {
    Steps list;
#ifdef SELFHEAL_AVX2
    list.add("avx2", &bank_step_avx2, kX86Avx2);
#endif
    list.add("portable", &bank_step_portable);
    return list;
  }();
  return found.functions();
}

}  // namespace selfheal::detail
