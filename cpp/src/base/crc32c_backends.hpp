#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// The backends of crc32c.hpp. They work on the raw register: no inversion before or after.
namespace selfheal::detail {

using Crc32cFunction = std::uint32_t (*)(std::uint32_t state, const std::byte* data,
                                         std::size_t size) noexcept;

inline constexpr std::uint32_t kCrc32cPolynomial = 0x82F63B78U;  // reflected

/// The register times x: one zero bit further.
constexpr std::uint32_t crc32c_times_x(std::uint32_t state) noexcept {
  return (state >> 1) ^ ((state & 1U) != 0 ? kCrc32cPolynomial : 0U);
}

std::uint32_t crc32c_portable(std::uint32_t state, const std::byte* data,
                              std::size_t size) noexcept;

#if defined(SELFHEAL_CRC32C_SSE42)
std::uint32_t crc32c_sse42(std::uint32_t state, const std::byte* data, std::size_t size) noexcept;
#endif
#if defined(SELFHEAL_CRC32C_ARMV8)
std::uint32_t crc32c_armv8(std::uint32_t state, const std::byte* data, std::size_t size) noexcept;
#endif

}  // namespace selfheal::detail
