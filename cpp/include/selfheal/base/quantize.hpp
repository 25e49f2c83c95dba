#pragma once

#include <cstdint>
#include <span>

/// Between real numbers and the levels of a quantised tensor. Vectorised; no allocation, no state.
/// T is int8_t, uint8_t or int16_t.
namespace selfheal {

/// scale > 0; |zero_point| < 2^20.
struct Levels {
  float scale = 1.0F;
  std::int32_t zero_point = 0;
};

/// Rounds reals / scale half to even, adds the zero point and saturates; NaN becomes the level of
/// zero. `levels` is as long as `reals`.
template <typename T>
void quantize(std::span<const float> reals, Levels scheme, std::span<T> levels) noexcept;

/// scale * (level - zero_point), in float32. `reals` is as long as `levels`.
template <typename T>
void dequantize(std::span<const T> levels, Levels scheme, std::span<float> reals) noexcept;

/// Whether no value is NaN or infinite.
bool all_finite(std::span<const float> values) noexcept;

}  // namespace selfheal
