#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D), for erasure codes.
///
/// Sums are xor. multiply_add works on whole blocks, eight shifts and masks a byte in loops that
/// compilers turn into vector code on every machine; a factor of 1 is a plain xor.
namespace selfheal::gf256 {

std::uint8_t multiply(std::uint8_t a, std::uint8_t b) noexcept;
/// a != 0.
std::uint8_t inverse(std::uint8_t a) noexcept;
/// sum[i] ^= factor * bytes[i], for as many as `bytes` has; `sum` has at least as many.
void multiply_add(std::span<std::byte> sum, std::uint8_t factor,
                  std::span<const std::byte> bytes) noexcept;

}  // namespace selfheal::gf256
