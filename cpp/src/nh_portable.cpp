#include <array>
#include <bit>

#include "nh.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(SELFHEAL_NH_NEON)
#include <arm_neon.h>
#endif

namespace selfheal::detail {
namespace {

struct Word {
  using Type = std::uint64_t;
  static constexpr std::size_t kWords = 1;

  static Type zero() noexcept { return 0; }
  static Type load(const std::uint64_t* words) noexcept { return *words; }
  static Type load(const std::byte* data) noexcept {
    Type word = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&word, data, sizeof word);
    } else {
      for (std::size_t i = 8; i-- > 0;) word = word << 8 | std::to_integer<Type>(data[i]);
    }
    return word;
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const auto low = static_cast<std::uint32_t>(m) + static_cast<std::uint32_t>(k);
    const auto high = static_cast<std::uint32_t>(m >> 32) + static_cast<std::uint32_t>(k >> 32);
    return sum + Type{low} * high;
  }
  static std::uint64_t total(Type sum) noexcept { return sum; }
};

#if defined(__SSE2__)
struct Sse2 {
  using Type = __m128i;
  static constexpr std::size_t kWords = 2;

  static Type zero() noexcept { return _mm_setzero_si128(); }
  static Type load(const void* from) noexcept {
    return _mm_loadu_si128(static_cast<const Type*>(from));
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const Type words = _mm_add_epi32(m, k);
    return _mm_add_epi64(sum, _mm_mul_epu32(words, _mm_srli_epi64(words, 32)));
  }
  static std::uint64_t total(Type sum) noexcept {
    alignas(16) std::array<std::uint64_t, 2> lanes;
    _mm_store_si128(reinterpret_cast<Type*>(lanes.data()), sum);
    return lanes[0] + lanes[1];
  }
};
#endif

#if defined(SELFHEAL_NH_NEON)
struct Neon {
  using Type = uint64x2_t;
  static constexpr std::size_t kWords = 2;

  static Type zero() noexcept { return vdupq_n_u64(0); }
  static Type load(const void* from) noexcept {
    return vreinterpretq_u64_u8(vld1q_u8(static_cast<const std::uint8_t*>(from)));
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const Type words =
        vreinterpretq_u64_u32(vaddq_u32(vreinterpretq_u32_u64(m), vreinterpretq_u32_u64(k)));
    return vmlal_u32(sum, vmovn_u64(words), vshrn_n_u64(words, 32));
  }
  static std::uint64_t total(Type sum) noexcept {
    return vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1);
  }
};
#endif

}  // namespace

NhSum nh_portable(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  return nh_sum<Word>(data, stripes, key);
}

#if defined(__SSE2__)
NhSum nh_sse2(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  return nh_sum<Sse2>(data, stripes, key);
}
#endif

#if defined(SELFHEAL_NH_NEON)
NhSum nh_neon(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  return nh_sum<Neon>(data, stripes, key);
}
#endif

}  // namespace selfheal::detail
