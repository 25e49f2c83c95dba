#pragma once

#include <cstdint>

/// exp and log from additions, multiplications and divisions alone: the same bits on every machine
/// (without fused operations), which a library's differ in. For recurrences whose states travel.
namespace selfheal::detail {

// The builtin, since the standard library of older systems has no std::bit_cast.

/// e^x to some 2e-16 of itself, for x from -700 to 700; 0 below, e^700 above.
constexpr double exact_exp(double x) noexcept {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0.69314718036912382;  // 32 bits: times a small integer it is exact
  constexpr double kLn2Low = 1.9082149292705877e-10;
  if (!(x >= -700.0)) return 0.0;
  if (x > 700.0) x = 700.0;
  const double scaled = x * kLog2E;
  const auto whole = static_cast<std::int64_t>(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
  const auto n = static_cast<double>(whole);
  const double rest = (x - n * kLn2High) - n * kLn2Low;  // within 0.35
  double sum = 1.0;
  for (int k = 13; k > 0; --k) sum = 1.0 + rest * sum / static_cast<double>(k);
  return sum * __builtin_bit_cast(double, static_cast<std::uint64_t>(1023 + whole) << 52);
}

/// ln x to some 2e-16, for normal x above 0; -708 below the least of these.
constexpr double exact_log(double x) noexcept {
  constexpr double kLn2High = 0.69314718036912382;
  constexpr double kLn2Low = 1.9082149292705877e-10;
  constexpr double kRoot2 = 1.4142135623730951;
  if (!(x >= 2.2250738585072014e-308)) return -708.0;
  const auto bits = __builtin_bit_cast(std::uint64_t, x);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double part =
      __builtin_bit_cast(double, (bits & 0x000F'FFFF'FFFF'FFFFU) | (std::uint64_t{1023} << 52));
  if (part > kRoot2) {
    part *= 0.5;
    ++exponent;
  }
  // ln part = 2 artanh((part - 1) / (part + 1)).
  const double ratio = (part - 1.0) / (part + 1.0);
  const double square = ratio * ratio;
  double sum = 0.0;
  for (int k = 21; k > 0; k -= 2) sum = 1.0 / static_cast<double>(k) + square * sum;
  const auto n = static_cast<double>(exponent);
  return n * kLn2High + (n * kLn2Low + 2.0 * ratio * sum);
}

}  // namespace selfheal::detail
