#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// What is measured on the raw tensors of one inference. Dequantised value: scale * (q -
/// zero_point).
///
/// No allocation, no state, any thread. Integer tensors are summed in integers, exactly; float
/// tensors in double around their first finite value. T is int8_t, uint8_t, int16_t or float; for
/// float pass scale 1 and zero_point 0. At most 2^31 elements.
namespace selfheal {

struct Quantization {
  double scale = 1.0;
  std::int32_t zero_point = 0;
};

struct InputSignals {
  /// Mean and standard deviation (divided by n) of the finite elements, dequantised; NaN if none.
  double mean;
  double std;
  /// Share of elements at the smallest or largest value of an integer dtype, 0 to 1; 0 for float.
  double saturated;
  /// Elements that are NaN or infinite; 0 for integers.
  std::uint64_t nonfinite;
  /// Mean absolute difference from the previous input, dequantised, over pairs that are both
  /// finite; NaN without a previous input or such a pair. Near 0: a stuck sensor.
  double change;
};

/// One pass over `input`; `previous` is empty or as long as `input`. About n / 10 ns for int8.
template <typename T>
InputSignals measure_input(std::span<const T> input, Quantization quantization,
                           std::span<const T> previous = {}) noexcept;

enum class OutputKind : std::uint8_t {
  kProbabilities,  ///< values are probabilities that sum to about 1
  kLogits,         ///< values go through a softmax first
};

/// Of a classifier. With an element that is not finite: all NaN and label -1.
struct OutputSignals {
  /// Largest probability, as dequantised (probabilities) or after the softmax (logits).
  double confidence;
  /// Confidence minus the second largest probability; with one class the confidence itself.
  double margin;
  /// Entropy in nats, 0 to ln(classes), of the probabilities clipped at 0 and divided by their
  /// sum; NaN if that sum is 0 (quantised answers over very many classes).
  double entropy;
  /// Index of the largest value, the first among equals.
  std::int64_t label;
};

/// `output`: one score per class, at least one. A logarithm or exponential per class.
template <typename T>
OutputSignals measure_output(std::span<const T> output, Quantization quantization,
                             OutputKind kind) noexcept;

}  // namespace selfheal
