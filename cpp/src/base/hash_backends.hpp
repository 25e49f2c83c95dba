#pragma once

#include <cstddef>
#include <cstdint>

#include "selfheal/base/keyed_hash.hpp"

namespace selfheal::detail {

/// Of `count` blocks of `size` bytes each. Tweaks go up by one.
using HashFunction = void (*)(const HashSchedule& schedule, std::uint64_t first_tweak,
                              const std::byte* const* blocks, std::size_t count, std::size_t size,
                              std::uint64_t* hashes) noexcept;

void nh_portable(const HashSchedule& schedule, std::uint64_t first_tweak,
                 const std::byte* const* blocks, std::size_t count, std::size_t size,
                 std::uint64_t* hashes) noexcept;

#if defined(__SSE2__)
#define SELFHEAL_NH_SSE2
void nh_sse2(const HashSchedule& schedule, std::uint64_t first_tweak,
             const std::byte* const* blocks, std::size_t count, std::size_t size,
             std::uint64_t* hashes) noexcept;
#endif
#if defined(SELFHEAL_AVX2)
void nh_avx2(const HashSchedule& schedule, std::uint64_t first_tweak,
             const std::byte* const* blocks, std::size_t count, std::size_t size,
             std::uint64_t* hashes) noexcept;
#endif
#if defined(__ARM_NEON) && defined(__ORDER_LITTLE_ENDIAN__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SELFHEAL_NH_NEON
void nh_neon(const HashSchedule& schedule, std::uint64_t first_tweak,
             const std::byte* const* blocks, std::size_t count, std::size_t size,
             std::uint64_t* hashes) noexcept;
#endif

}  // namespace selfheal::detail
