#include "measure/class_scores.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace selfheal::detail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kLevels = 256;
constexpr std::int64_t kLogarithms = 128;

struct TopTwo {
  std::uint32_t first;   // u
  std::uint32_t second;  // u; 0 with one class
  std::int64_t label;
};

// The largest u, the first among equals, and the second largest. A key is u above 32 bits of what
// falls with the index, so that two integers carry all, and nothing is to be predicted.
TopTwo top_two(const std::uint8_t* output, std::size_t n, std::uint8_t flip) noexcept {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t u = static_cast<std::uint8_t>(output[i] ^ flip);
    const std::uint64_t key = (u << 32U) | (0xFFFFFFFFU - static_cast<std::uint32_t>(i));
    second = std::max(second, std::min(first, key));
    first = std::max(first, key);
  }
  return {static_cast<std::uint32_t>(first >> 32U), static_cast<std::uint32_t>(second >> 32U),
          static_cast<std::int64_t>(0xFFFFFFFFU - static_cast<std::uint32_t>(first))};
}

}  // namespace

ClassScores::ClassScores(const TensorLayout& layout, OutputKind kind)
    : layout_(layout), kind_(kind) {
  if (layout.type != ElementType::kInt8 && layout.type != ElementType::kUint8) return;
  const double scale = layout.quantization.scale;
  flip_ = layout.type == ElementType::kInt8 ? 0x80 : 0;
  zero_ = layout.quantization.zero_point + (flip_ != 0 ? 128 : 0);
  first_.resize(kLevels);
  second_.resize(kLevels);
  for (std::size_t level = 0; level < kLevels; ++level) {
    const auto u = static_cast<double>(level);
    if (kind == OutputKind::kProbabilities) {
      const double steps = std::max(0.0, u - zero_);
      first_[level] = steps;
      second_[level] = steps > 0.0 ? scale * steps * std::log(scale * steps) : 0.0;
    } else {
      first_[level] = std::exp(-scale * u);
      // exp(-inf) * -inf would be NaN: differences beyond a double's range weigh nothing.
      second_[level] = first_[level] > 0.0 ? first_[level] * (-scale * u) : 0.0;
    }
  }
  if (kind == OutputKind::kProbabilities && scale > 1e-6 && scale <= 1.0) {
    logarithms_.resize(kLogarithms);
    lowest_ = std::max<std::int64_t>(1, std::llround(1.0 / scale) - kLogarithms / 2);
    for (std::int64_t i = 0; i < kLogarithms; ++i) {
      logarithms_[static_cast<std::size_t>(i)] = std::log(scale * static_cast<double>(lowest_ + i));
    }
  }
}

double ClassScores::logarithm(std::int64_t steps) const noexcept {
  const auto index = static_cast<std::uint64_t>(steps - lowest_);
  return index < logarithms_.size()
             ? logarithms_[static_cast<std::size_t>(index)]
             : std::log(layout_.quantization.scale * static_cast<double>(steps));
}

ClassSignals ClassScores::measure(const void* output) const noexcept {
  if (is_sigmoid()) {
    switch (layout_.type) {
      case ElementType::kInt8:
        return measure_sigmoid(static_cast<const std::int8_t*>(output));
      case ElementType::kUint8:
        return measure_sigmoid(static_cast<const std::uint8_t*>(output));
      case ElementType::kInt16:
        return measure_sigmoid(static_cast<const std::int16_t*>(output));
      case ElementType::kFloat32:
        return measure_sigmoid(static_cast<const float*>(output));
    }
  }
  switch (layout_.type) {
    case ElementType::kInt8:
    case ElementType::kUint8: {
      const auto* const bytes = static_cast<const std::uint8_t*>(output);
      return kind_ == OutputKind::kProbabilities ? measure_probabilities(bytes)
                                                 : measure_logits(bytes);
    }
    case ElementType::kInt16:
      return measure_any(static_cast<const std::int16_t*>(output));
    case ElementType::kFloat32:
      break;
  }
  return measure_any(static_cast<const float*>(output));
}

ClassSignals ClassScores::measure_probabilities(const std::uint8_t* output) const noexcept {
  const std::size_t n = layout_.elements;
  const double scale = layout_.quantization.scale;
  std::int64_t steps = 0;
  double even = 0.0;
  double odd = 0.0;
  std::size_t i = 0;
  for (; i + 1 < n; i += 2) {
    const std::size_t a = static_cast<std::uint8_t>(output[i] ^ flip_);
    const std::size_t b = static_cast<std::uint8_t>(output[i + 1] ^ flip_);
    steps += std::max<std::int64_t>(0, static_cast<std::int64_t>(a) - zero_) +
             std::max<std::int64_t>(0, static_cast<std::int64_t>(b) - zero_);
    even += second_[a];
    odd += second_[b];
  }
  if (i < n) {
    const std::size_t a = static_cast<std::uint8_t>(output[i] ^ flip_);
    steps += std::max<std::int64_t>(0, static_cast<std::int64_t>(a) - zero_);
    even += second_[a];
  }
  const TopTwo top = top_two(output, n, flip_);
  ClassSignals signals{};
  signals.label = top.label;
  signals.confidence = scale * (static_cast<double>(top.first) - zero_);
  signals.margin = scale * static_cast<double>(top.first - top.second);
  signals.entropy =
      steps > 0
          ? std::max(0.0, logarithm(steps) - (even + odd) / (scale * static_cast<double>(steps)))
          : kNan;
  return signals;
}

ClassSignals ClassScores::measure_logits(const std::uint8_t* output) const noexcept {
  const std::size_t n = layout_.elements;
  const TopTwo top = top_two(output, n, flip_);
  double sum = 0.0;
  double weighted = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t below = top.first - static_cast<std::uint8_t>(output[i] ^ flip_);
    sum += first_[below];
    weighted += second_[below];
  }
  const double share = 1.0 / sum;
  ClassSignals signals{};
  signals.label = top.label;
  signals.confidence = share;
  signals.margin = n == 1 ? 1.0 : (1.0 - first_[top.first - top.second]) * share;
  signals.entropy = std::max(0.0, std::log(sum) - weighted * share);
  return signals;
}

template <typename T>
ClassSignals ClassScores::measure_sigmoid(const T* output) const noexcept {
  const double p =
      layout_.quantization.scale * (static_cast<double>(*output) - layout_.quantization.zero_point);
  if (!std::isfinite(p)) return {kNan, kNan, kNan, -1};
  const auto weighted = [](double share) { return share > 0.0 ? share * std::log(share) : 0.0; };
  const double clipped = std::clamp(p, 0.0, 1.0);
  ClassSignals signals{};
  signals.label = p > 0.5 ? 1 : 0;
  signals.confidence = std::max(p, 1.0 - p);
  signals.margin = std::fabs(2.0 * p - 1.0);
  signals.entropy = std::max(0.0, -(weighted(clipped) + weighted(1.0 - clipped)));
  return signals;
}

template <typename T>
ClassSignals ClassScores::measure_any(const T* output) const noexcept {
  const Quantization quantization = layout_.quantization;
  const auto value_of = [&](T raw) {
    return quantization.scale * (static_cast<double>(raw) - quantization.zero_point);
  };
  double first = -std::numeric_limits<double>::infinity();
  double second = first;
  std::int64_t label = -1;
  bool all_finite = true;
  for (std::size_t i = 0; i < layout_.elements; ++i) {
    const double value = value_of(output[i]);
    all_finite = all_finite && std::isfinite(value);
    if (value > first) {
      second = first;
      first = value;
      label = static_cast<std::int64_t>(i);
    } else if (value > second) {
      second = value;
    }
  }
  if (!all_finite) return {kNan, kNan, kNan, -1};
  double sum = 0.0;
  double weighted = 0.0;
  for (std::size_t i = 0; i < layout_.elements; ++i) {
    const double value = value_of(output[i]);
    if (kind_ == OutputKind::kLogits) {
      const double below = value - first;
      const double weight = std::exp(below);
      sum += weight;
      weighted += weight > 0.0 ? weight * below : 0.0;
    } else if (value > 0.0) {
      sum += value;
      weighted += value * std::log(value);
    }
  }
  ClassSignals signals{};
  signals.label = label;
  signals.entropy = sum > 0.0 ? std::max(0.0, std::log(sum) - weighted / sum) : kNan;
  if (kind_ == OutputKind::kLogits) {
    signals.confidence = 1.0 / sum;
    signals.margin = layout_.elements == 1 ? 1.0 : (1.0 - std::exp(second - first)) / sum;
  } else {
    signals.confidence = first;
    signals.margin = first - second;
  }
  return signals;
}

}  // namespace selfheal::detail
