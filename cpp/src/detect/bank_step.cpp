#include <array>

#include "detect/bank_step_kernel.hpp"

namespace selfheal::detail {

BankStepResult bank_step_portable(const double* row, std::size_t signals,
                                  const Reference* references, const BankPreparation* preparations,
                                  BankLanes* lanes, SignalCharts* charts, double* inputs) noexcept {
  return bank_step(row, signals, references, preparations, lanes, charts, inputs);
}

std::span<const BankStep> available_bank_steps() noexcept {
#ifdef SELFHEAL_AVX2
  static constexpr std::array<BankStep, 2> kAll{&bank_step_avx2, &bank_step_portable};
  return std::span(kAll).subspan(__builtin_cpu_supports("avx2") ? 0 : 1);
#else
  static constexpr std::array<BankStep, 1> kAll{&bank_step_portable};
  return kAll;
#endif
}

}  // namespace selfheal::detail
