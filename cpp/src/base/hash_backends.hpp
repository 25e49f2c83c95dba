#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "selfheal/base/keyed_hash.hpp"

namespace selfheal::detail {

using HashFunction = std::uint64_t (*)(const HashSchedule& schedule, std::uint64_t tweak,
                                       std::span<const std::byte> bytes) noexcept;

/// Of 8 blocks of `size` bytes: whole stripes, one chunk at most. Tweaks go up by one.
using HashEightFunction = void (*)(const HashSchedule& schedule, std::uint64_t first_tweak,
                                   const std::byte* const* blocks, std::size_t size,
                                   std::uint64_t* hashes) noexcept;

std::uint64_t nh_hash(const HashSchedule& schedule, std::uint64_t tweak,
                      std::span<const std::byte> bytes) noexcept;
#if defined(__ARM_NEON) && defined(__ORDER_LITTLE_ENDIAN__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SELFHEAL_NH_NEON
std::uint64_t nh_hash_neon(const HashSchedule& schedule, std::uint64_t tweak,
                           std::span<const std::byte> bytes) noexcept;
#endif

#if defined(SELFHEAL_CLNH_NEON)
std::uint64_t clnh_hash_neon(const HashSchedule& schedule, std::uint64_t tweak,
                             std::span<const std::byte> bytes) noexcept;
#endif
#if defined(SELFHEAL_CLNH_AESNI)
std::uint64_t clnh_hash_aesni(const HashSchedule& schedule, std::uint64_t tweak,
                              std::span<const std::byte> bytes) noexcept;
void clnh_eight_aesni(const HashSchedule& schedule, std::uint64_t first_tweak,
                      const std::byte* const* blocks, std::size_t size,
                      std::uint64_t* hashes) noexcept;
#endif

}  // namespace selfheal::detail
