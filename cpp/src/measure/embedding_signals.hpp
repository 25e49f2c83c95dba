#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "measure/tensor_sums.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

// What is measured on the input of a classifier's last layer.
class EmbeddingSignals {
 public:
  // `plan.embedding` is there. Keeps the centroids of classes that have one, in steps from the
  // zero point, so that elements need no dequantising.
  EmbeddingSignals(const SignalPlan& plan, const TensorSums& sums);

  // Writes norm, active share and, with centroids, the distance; all NaN for nullptr, or with an
  // element that is not finite.
  void measure(const void* embedding, std::int64_t label, double* row) const noexcept;
  std::size_t memory_bytes() const noexcept;

 private:
  double distance(const void* embedding, std::int64_t label) const noexcept;

  TensorLayout layout_;
  const TensorSums* sums_;
  std::vector<std::int32_t> row_of_;  // by class; -1 without a centroid
  std::vector<float> centroids_;
  std::vector<float> scales_;  // a number a centroid
  std::vector<float> precision_;
};

}  // namespace selfheal::detail
