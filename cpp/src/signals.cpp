#include "selfheal/signals.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace selfheal {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The number of elements whose sums fit 32 bits for 8-bit types, so that the inner loop is narrow.
constexpr std::size_t kChunk = 4096;

struct IntegerSums {
  std::int64_t sum = 0;
  std::int64_t squares = 0;
  std::int64_t saturated = 0;
  std::int64_t change = 0;
};

template <typename T, bool kWithPrevious>
IntegerSums sum_integers(std::span<const T> input, std::span<const T> previous) noexcept {
  using Narrow = std::conditional_t<sizeof(T) == 1, std::int32_t, std::int64_t>;
  constexpr int kMin = std::numeric_limits<T>::min();
  constexpr int kMax = std::numeric_limits<T>::max();
  IntegerSums total;
  for (std::size_t begin = 0; begin < input.size(); begin += kChunk) {
    const std::size_t count = std::min(kChunk, input.size() - begin);
    const T* const values = input.data() + begin;
    Narrow sum = 0;
    Narrow squares = 0;
    Narrow saturated = 0;
    Narrow change = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t value = values[i];
      sum += value;
      squares += value * value;
      saturated += (value == kMin || value == kMax) ? 1 : 0;
      if constexpr (kWithPrevious) {
        const std::int32_t before = previous[begin + i];
        change += value > before ? value - before : before - value;
      }
    }
    total.sum += sum;
    total.squares += squares;
    total.saturated += saturated;
    total.change += change;
  }
  return total;
}

template <typename T>
InputSignals measure_integers(std::span<const T> input, Quantization quantization,
                              std::span<const T> previous) noexcept {
  const IntegerSums sums = previous.empty() ? sum_integers<T, false>(input, previous)
                                            : sum_integers<T, true>(input, previous);
  const auto n = static_cast<std::int64_t>(input.size());
  const auto count = static_cast<double>(n);
  // Moved, still in integers, to a pivot near the mean: nothing cancels in the variance.
  const std::int64_t pivot = sums.sum / n;
  const std::int64_t rest = sums.sum - pivot * n;
  const std::int64_t squares = sums.squares - 2 * pivot * sums.sum + pivot * pivot * n;
  const double offset = static_cast<double>(rest) / count;
  const double variance = std::max(0.0, static_cast<double>(squares) / count - offset * offset);
  InputSignals signals{};
  signals.mean =
      quantization.scale * (static_cast<double>(pivot - quantization.zero_point) + offset);
  signals.std = quantization.scale * std::sqrt(variance);
  signals.saturated = static_cast<double>(sums.saturated) / count;
  signals.change =
      previous.empty() ? kNan : quantization.scale * static_cast<double>(sums.change) / count;
  return signals;
}

InputSignals measure_floats(std::span<const float> input, Quantization quantization,
                            std::span<const float> previous) noexcept {
  // Around an element of the data the variance cannot lose more than n roundings.
  double pivot = 0.0;
  for (const float value : input) {
    if (std::isfinite(value)) {
      pivot = value;
      break;
    }
  }
  double sum = 0.0;
  double squares = 0.0;
  double change = 0.0;
  std::uint64_t finite = 0;
  std::uint64_t pairs = 0;
  for (std::size_t i = 0; i < input.size(); ++i) {
    const bool is_finite = std::isfinite(input[i]);
    const double offset = is_finite ? static_cast<double>(input[i]) - pivot : 0.0;
    finite += is_finite ? 1 : 0;
    sum += offset;
    squares += offset * offset;
    if (!previous.empty()) {
      const bool is_pair = is_finite && std::isfinite(previous[i]);
      pairs += is_pair ? 1 : 0;
      change += is_pair ? std::fabs(static_cast<double>(input[i]) - previous[i]) : 0.0;
    }
  }
  InputSignals signals{kNan, kNan, 0.0, input.size() - finite, kNan};
  if (finite > 0) {
    const auto count = static_cast<double>(finite);
    const double mean = sum / count;
    signals.mean = quantization.scale * (pivot + mean - quantization.zero_point);
    signals.std = quantization.scale * std::sqrt(std::max(0.0, squares / count - mean * mean));
  }
  if (pairs > 0) signals.change = quantization.scale * change / static_cast<double>(pairs);
  return signals;
}

struct TopTwo {
  double first = -std::numeric_limits<double>::infinity();
  double second = -std::numeric_limits<double>::infinity();
  std::int64_t label = -1;
  bool all_finite = true;
};

template <typename T>
TopTwo top_two(std::span<const T> output, Quantization quantization) noexcept {
  TopTwo top;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double value =
        quantization.scale * (static_cast<double>(output[i]) - quantization.zero_point);
    if (!std::isfinite(value)) top.all_finite = false;
    if (value > top.first) {
      top.second = top.first;
      top.first = value;
      top.label = static_cast<std::int64_t>(i);
    } else if (value > top.second) {
      top.second = value;
    }
  }
  return top;
}

}  // namespace

template <typename T>
InputSignals measure_input(std::span<const T> input, Quantization quantization,
                           std::span<const T> previous) noexcept {
  if (input.empty()) return {kNan, kNan, 0.0, 0, kNan};
  if constexpr (std::is_same_v<T, float>) {
    return measure_floats(input, quantization, previous);
  } else {
    return measure_integers(input, quantization, previous);
  }
}

template <typename T>
OutputSignals measure_output(std::span<const T> output, Quantization quantization,
                             OutputKind kind) noexcept {
  const TopTwo top = top_two(output, quantization);
  if (output.empty() || !top.all_finite) return {kNan, kNan, kNan, -1};
  double sum = 0.0;
  double weighted = 0.0;
  for (const T raw : output) {
    const double value = quantization.scale * (static_cast<double>(raw) - quantization.zero_point);
    if (kind == OutputKind::kLogits) {
      const double below = value - top.first;
      const double weight = std::exp(below);
      sum += weight;
      // exp(-inf) * -inf would be NaN: differences beyond a double's range weigh nothing.
      weighted += weight > 0.0 ? weight * below : 0.0;
    } else if (value > 0.0) {
      sum += value;
      weighted += value * std::log(value);
    }
  }
  OutputSignals signals{};
  signals.label = top.label;
  signals.entropy = sum > 0.0 ? std::max(0.0, std::log(sum) - weighted / sum) : kNan;
  const bool is_single = output.size() == 1;
  if (kind == OutputKind::kLogits) {
    signals.confidence = 1.0 / sum;
    signals.margin = is_single ? 1.0 : (1.0 - std::exp(top.second - top.first)) / sum;
  } else {
    signals.confidence = top.first;
    signals.margin = is_single ? top.first : top.first - top.second;
  }
  return signals;
}

#define SELFHEAL_INSTANTIATE(T)                                            \
  template InputSignals measure_input<T>(std::span<const T>, Quantization, \
                                         std::span<const T>) noexcept;     \
  template OutputSignals measure_output<T>(std::span<const T>, Quantization, OutputKind) noexcept;
SELFHEAL_INSTANTIATE(std::int8_t)
SELFHEAL_INSTANTIATE(std::uint8_t)
SELFHEAL_INSTANTIATE(std::int16_t)
SELFHEAL_INSTANTIATE(float)
#undef SELFHEAL_INSTANTIATE

}  // namespace selfheal
