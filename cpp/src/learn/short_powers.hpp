#pragma once

#include <cstddef>
#include <cstdint>

/// Powers of a few floats, four at a time and without branches: a library's exp and log take a
/// hundred instructions a number, and are in no cache after an inference.
namespace selfheal::detail {

inline constexpr std::size_t kFour = 4;
using Four = float __attribute__((vector_size(kFour * sizeof(float))));
using FourBits = std::uint32_t __attribute__((vector_size(kFour * sizeof(float))));
using FourInts = std::int32_t __attribute__((vector_size(kFour * sizeof(float))));

// The builtin, since the standard library of older systems has no std::bit_cast.

/// 2^x to some 3e-7 of itself, for x from -126 to 127, and as for these beyond them; NaN of NaN.
inline Four short_exp2(Four x) noexcept {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: what is added to it is rounded
  constexpr std::uint32_t kShiftBits = 0x4B400000;
  constexpr Four kLeast = {-126.0F, -126.0F, -126.0F, -126.0F};
  constexpr Four kMost = {127.0F, 127.0F, 127.0F, 127.0F};
  x = x < kLeast ? kLeast : x;
  x = x > kMost ? kMost : x;
  const Four shifted = x + kShift;
  const FourBits whole = __builtin_bit_cast(FourBits, shifted) - kShiftBits;
  const Four rest = 0.693147181F * (x - (shifted - kShift));  // within 0.35
  Four sum = 1.0F + rest * (1.0F / 6.0F);
  sum = 1.0F + rest * sum * (1.0F / 5.0F);
  sum = 1.0F + rest * sum * (1.0F / 4.0F);
  sum = 1.0F + rest * sum * (1.0F / 3.0F);
  sum = 1.0F + rest * sum * (1.0F / 2.0F);
  sum = 1.0F + rest * sum;
  return sum * __builtin_bit_cast(Four, (whole + 127U) << 23U);
}

/// log2 x to some 2e-7, or of itself, for normal x above 0; NaN of NaN.
inline Four short_log2(Four x) noexcept {
  constexpr std::uint32_t kRootHalf = 0x3F3504F3;
  const auto bits = __builtin_bit_cast(FourBits, x);
  const FourInts exponent = __builtin_bit_cast(FourInts, bits - kRootHalf) >> 23;
  const auto part =
      __builtin_bit_cast(Four, bits - (__builtin_bit_cast(FourBits, exponent) << 23U));
  // ln part = 2 artanh((part - 1) / (part + 1)), and the ratio is within 0.172.
  const Four ratio = (part - 1.0F) / (part + 1.0F);
  const Four square = ratio * ratio;
  Four sum = 1.0F / 7.0F + square * (1.0F / 9.0F);
  sum = 1.0F / 5.0F + square * sum;
  sum = 1.0F / 3.0F + square * sum;
  sum = 1.0F + square * sum;
  return __builtin_convertvector(exponent, Four) + 2.88539008F * (ratio * sum);
}

/// Whole fours that so many numbers take.
constexpr std::size_t in_fours(std::size_t count) noexcept {
  return (count + kFour - 1) / kFour * kFour;
}

/// Replaces each number by a function of it, which takes and gives four. count: of whole fours.
template <typename Function>
void for_fours(float* values, std::size_t count, Function&& function) noexcept {
  for (std::size_t j = 0; j < count; j += kFour) {
    Four four;
    __builtin_memcpy(&four, values + j, sizeof four);
    four = function(four);
    __builtin_memcpy(values + j, &four, sizeof four);
  }
}

/// Adds `share` times each of `from`. count: of whole fours.
inline void add_fours(const float* from, std::size_t count, float share, float* to) noexcept {
  for (std::size_t j = 0; j < count; j += kFour) {
    Four sum;
    Four four;
    __builtin_memcpy(&sum, to + j, sizeof sum);
    __builtin_memcpy(&four, from + j, sizeof four);
    sum += share * four;
    __builtin_memcpy(to + j, &sum, sizeof sum);
  }
}

}  // namespace selfheal::detail
