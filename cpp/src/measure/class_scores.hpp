#pragma once

#include <cstdint>
#include <vector>

#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

struct ClassSignals {
  double confidence;
  double margin;
  double entropy;
  std::int64_t label;  // -1, and all else NaN, with an element that is not finite
};

// What is measured on a classifier's output. For 8 bits by tables, made here; a logarithm or
// exponential per class for other types, and two logarithms for a single sigmoid.
class ClassScores {
 public:
  ClassScores(const TensorLayout& layout, OutputKind kind);

  ClassSignals measure(const void* output) const noexcept;
  std::size_t classes() const noexcept { return is_sigmoid() ? 2 : layout_.elements; }
  std::size_t memory_bytes() const noexcept {
    return (first_.capacity() + second_.capacity() + logarithms_.capacity()) * sizeof(double);
  }

 private:
  template <typename T>
  ClassSignals measure_any(const T* output) const noexcept;
  template <typename T>
  ClassSignals measure_sigmoid(const T* output) const noexcept;
  bool is_sigmoid() const noexcept {
    return layout_.elements == 1 && kind_ == OutputKind::kProbabilities;
  }
  ClassSignals measure_probabilities(const std::uint8_t* output) const noexcept;
  ClassSignals measure_logits(const std::uint8_t* output) const noexcept;
  double logarithm(std::int64_t steps) const noexcept;

  TensorLayout layout_;
  OutputKind kind_;
  std::uint8_t flip_ = 0;
  std::int32_t zero_ = 0;  // of u, as in tensor_sums.hpp
  // Probabilities, by u: steps above zero, and value * log(value). Logits, by steps below the
  // largest: weight exp(-d), and weight * -d.
  std::vector<double> first_;
  std::vector<double> second_;
  // Logarithms of a sum of about one, by steps from lowest_.
  std::vector<double> logarithms_;
  std::int64_t lowest_ = 0;
};

}  // namespace selfheal::detail
