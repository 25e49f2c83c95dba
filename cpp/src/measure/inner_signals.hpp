#pragma once

#include "measure/tensor_sums.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

// What is measured on one tensor in the middle of a model.
class InnerSignals {
 public:
  InnerSignals(const TensorLayout& layout, const TensorSums& sums);

  // Writes mean and active share; NaN for nullptr, or with an element that is not finite.
  void measure(const void* tensor, double* row) const noexcept;

 private:
  TensorLayout layout_;
  const TensorSums* sums_;
};

}  // namespace selfheal::detail
