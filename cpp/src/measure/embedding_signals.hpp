#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "measure/tensor_sums.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

// How many elements of the plan's embedding, which is there, are measured.
std::size_t measured_width(const SignalPlan& plan) noexcept;

// Throws std::invalid_argument where the part, centroids, precision and scales of the plan do not
// fit its embedding and classes.
void check_places(const SignalPlan& plan);

// What is measured on the input of a classifier's last layer, or on a part of it.
class EmbeddingSignals {
 public:
  // `plan.embedding` is there. Keeps the centroids of classes that have one, in steps from the
  // zero point, so that elements need no dequantising.
  EmbeddingSignals(const SignalPlan& plan, const TensorSums& sums);

  // Writes norm, active share and, with centroids, the distance; all NaN for nullptr, or with an
  // element that is not finite.
  void measure(const void* embedding, std::int64_t label, double* row) noexcept;
  std::size_t memory_bytes() const noexcept;

 private:
  // Copies the part that is measured.
  const void* part_of(const void* embedding) noexcept;
  double distance(const void* embedding, std::int64_t label) const noexcept;

  TensorLayout layout_;               // of what is measured
  std::vector<std::size_t> offsets_;  // of the runs, in bytes; empty: everything is measured
  std::vector<std::byte> part_;
  const TensorSums* sums_;
  std::vector<std::int32_t> row_of_;  // by class; -1 without a centroid
  std::vector<float> centroids_;
  std::vector<float> scales_;  // a number a centroid
  std::vector<float> precision_;
};

}  // namespace selfheal::detail
