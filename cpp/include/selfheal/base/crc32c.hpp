#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// CRC-32C (Castagnoli; polynomial 0x1EDC6F41, reflected, initial value and final xor all ones),
/// as in RFC 3720, appendix B.4.
///
/// It finds every burst up to 32 bits and, in a block of 512 bytes, every pattern of up to 5
/// flipped bits. It does not find what an attacker chose so that the checksum stays the same.
///
/// Backends, fastest first; the first one that this CPU has is in use from the start:
///
///     name        needs                      method
///     "sse4.2"    x86-64, SSE4.2, PCLMULQDQ  three interleaved streams, joined by multiplication
///     "armv8"     ARMv8 CRC32 extension      one instruction per 8 (AArch64) or 4 bytes
///     "portable"  nothing                    slicing by 8 (Kounavis and Berry, 2008)
///
/// All give the same values. No allocation, no exceptions; any alignment, any length. Any number of
/// threads may compute; switching is atomic and takes effect for the next call.
namespace selfheal {

/// Checksum of `bytes` appended to data whose checksum is `value` (0: nothing before).
/// crc32c(b, crc32c(a)) is the checksum of a followed by b.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t value = 0) noexcept;

/// Name of the backend in use.
std::string_view crc32c_backend() noexcept;

/// Names of the backends that this build has and this CPU can run, fastest first.
std::span<const std::string_view> crc32c_backends() noexcept;

/// Switches, for tests and measurements. False, and nothing changes, if `name` is not among
/// crc32c_backends().
bool set_crc32c_backend(std::string_view name) noexcept;

}  // namespace selfheal
