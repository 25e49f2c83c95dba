#include "selfheal/base/quantize.hpp"

#include <algorithm>
#include <limits>

namespace selfheal {
namespace {

// Adding and subtracting 1.5 * 2^23 rounds a float below 2^22 half to even, on every machine and
// in vectors; the rounding instruction is not in the least of x86-64.
constexpr float kRounder = 12582912.0F;
constexpr float kFarthest = 4194303.0F;

}  // namespace

template <typename T>
void quantize(std::span<const float> reals, Levels scheme, std::span<T> levels) noexcept {
  constexpr auto kLeast = static_cast<float>(std::numeric_limits<T>::min());
  constexpr auto kMost = static_cast<float>(std::numeric_limits<T>::max());
  const auto zero = static_cast<float>(scheme.zero_point);
  for (std::size_t i = 0; i < reals.size(); ++i) {
    const float real = reals[i] == reals[i] ? reals[i] : 0.0F;
    const float steps = std::clamp(real / scheme.scale, -kFarthest, kFarthest);
    const float level = (steps + kRounder) - kRounder + zero;
    levels[i] = static_cast<T>(static_cast<std::int32_t>(std::clamp(level, kLeast, kMost)));
  }
}

template <typename T>
void dequantize(std::span<const T> levels, Levels scheme, std::span<float> reals) noexcept {
  const auto zero = static_cast<float>(scheme.zero_point);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    reals[i] = (static_cast<float>(levels[i]) - zero) * scheme.scale;
  }
}

bool all_finite(std::span<const float> values) noexcept {
  std::uint32_t broken = 0;
  for (const float value : values) broken |= value - value == 0.0F ? 0U : 1U;  // else it is NaN
  return broken == 0;
}

template void quantize<std::int8_t>(std::span<const float>, Levels,
                                    std::span<std::int8_t>) noexcept;
template void quantize<std::uint8_t>(std::span<const float>, Levels,
                                     std::span<std::uint8_t>) noexcept;
template void quantize<std::int16_t>(std::span<const float>, Levels,
                                     std::span<std::int16_t>) noexcept;
template void dequantize<std::int8_t>(std::span<const std::int8_t>, Levels,
                                      std::span<float>) noexcept;
template void dequantize<std::uint8_t>(std::span<const std::uint8_t>, Levels,
                                       std::span<float>) noexcept;
template void dequantize<std::int16_t>(std::span<const std::int16_t>, Levels,
                                       std::span<float>) noexcept;

}  // namespace selfheal
