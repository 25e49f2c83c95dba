#pragma once

#include <cstddef>
#include <cstdint>

#include "selfheal/base/keyed_hash.hpp"

namespace selfheal::detail {

/// What one instruction set computes.
struct HashFunctions {
  /// Of `count` blocks of `size` bytes each. Tweaks go up by one.
  void (*hashes)(const HashSchedule& schedule, std::uint64_t first_tweak,
                 const std::byte* const* blocks, std::size_t count, std::size_t size,
                 std::uint64_t* hashes) noexcept;
  /// Whether blocks that lie together have these hashes, all of both lists.
  bool (*match)(const HashSchedule& schedule, std::uint64_t first_tweak, const std::byte* blocks,
                std::size_t count, std::size_t size, const std::uint64_t* one,
                const std::uint64_t* other) noexcept;
};

extern const HashFunctions nh_portable;  // NOLINT: constants

#if defined(__SSE2__)
#define SELFHEAL_NH_SSE2
extern const HashFunctions nh_sse2;  // NOLINT: the same
#endif
#if defined(SELFHEAL_AVX2)
extern const HashFunctions nh_avx2;  // NOLINT: the same
#endif
#if defined(__ARM_NEON) && defined(__ORDER_LITTLE_ENDIAN__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SELFHEAL_NH_NEON
extern const HashFunctions nh_neon;  // NOLINT: the same
#endif

}  // namespace selfheal::detail
