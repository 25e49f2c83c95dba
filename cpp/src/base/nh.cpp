// The forms of NH that need nothing but what this library is compiled for.
#include <algorithm>
#include <array>

#include "base/nh_hash.hpp"

#if defined(SELFHEAL_NH_NEON)
#include <arm_neon.h>
#endif
#if defined(SELFHEAL_NH_SSE2)
#include <emmintrin.h>
#endif

namespace selfheal::detail {
namespace {

struct Portable {
  static std::uint32_t word(const std::byte* data) noexcept {
    return std::to_integer<std::uint32_t>(data[0]) | std::to_integer<std::uint32_t>(data[1]) << 8 |
           std::to_integer<std::uint32_t>(data[2]) << 16 |
           std::to_integer<std::uint32_t>(data[3]) << 24;
  }
  static ChunkSum of(const std::byte* data, std::size_t stripes,
                     const std::uint32_t* key) noexcept {
    ChunkSum sum;
    std::array<std::uint32_t, 8> before;
    std::copy_n(key, 8, before.begin());
    key += 8;
    for (std::size_t s = 0; s < stripes; ++s, data += 64, key += 16) {
      for (std::size_t i = 0; i < 8; ++i) {
        const std::uint32_t a = word(data + 4 * i) + key[i];
        const std::uint32_t b = word(data + 4 * i + 32) + key[i + 8];
        sum.first += std::uint64_t{a} * b;
        sum.second += std::uint64_t{before[i]} * b;
        before[i] = a;
      }
    }
    for (std::size_t i = 0; i < 8; ++i) sum.second += std::uint64_t{before[i]} * key[i + 8];
    return sum;
  }
};

#if defined(SELFHEAL_NH_SSE2)
struct Sse2 {
  static __m128i load(const void* from) noexcept {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
  }
  // Words in even places, and those in odd ones moved there.
  struct Words {
    __m128i even;
    __m128i odd;
  };
  static Words words(__m128i all) noexcept { return {all, _mm_srli_epi64(all, 32)}; }
  static __m128i add_products(__m128i sum, const Words& a, const Words& b) noexcept {
    return _mm_add_epi64(sum,
                         _mm_add_epi64(_mm_mul_epu32(a.even, b.even), _mm_mul_epu32(a.odd, b.odd)));
  }
  static std::uint64_t total(__m128i sum) noexcept {
    const __m128i both = _mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum));
    std::uint64_t word = 0;
    std::memcpy(&word, &both, sizeof word);
    return word;
  }
  static ChunkSum of(const std::byte* data, std::size_t stripes,
                     const std::uint32_t* key) noexcept {
    __m128i first = _mm_setzero_si128();
    __m128i second = _mm_setzero_si128();
    Words before[2] = {words(load(key)), words(load(key + 4))};  // NOLINT: vectors
    key += 8;
    for (std::size_t s = 0; s < stripes; ++s, data += 64, key += 16) {
#pragma GCC unroll 2
      for (std::size_t i = 0; i < 2; ++i) {
        const Words a = words(_mm_add_epi32(load(data + 16 * i), load(key + 4 * i)));
        const Words b = words(_mm_add_epi32(load(data + 16 * i + 32), load(key + 4 * i + 8)));
        first = add_products(first, a, b);
        second = add_products(second, before[i], b);
        before[i] = a;
      }
    }
    second = add_products(second, before[0], words(load(key + 8)));
    second = add_products(second, before[1], words(load(key + 12)));
    return {total(first), total(second)};
  }
};
#endif

#if defined(SELFHEAL_NH_NEON)
struct Neon {
  static uint32x4_t load(const std::byte* from) noexcept {
    return vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(from)));
  }
  static std::uint64_t total(uint64x2_t a, uint64x2_t b) noexcept {
    const uint64x2_t sum = vaddq_u64(a, b);
    return vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1);
  }
  static ChunkSum of(const std::byte* data, std::size_t stripes,
                     const std::uint32_t* key) noexcept {
    // Two sums each: a multiplication that adds waits for the one before it.
    uint64x2_t first[2] = {vdupq_n_u64(0), vdupq_n_u64(0)};       // NOLINT: vectors
    uint64x2_t second[2] = {vdupq_n_u64(0), vdupq_n_u64(0)};      // NOLINT: the same
    uint32x4_t before[2] = {vld1q_u32(key), vld1q_u32(key + 4)};  // NOLINT: the same
    const auto add_products = [](uint64x2_t* sum, uint32x4_t a, uint32x4_t b) {
      sum[0] = vmlal_u32(sum[0], vget_low_u32(a), vget_low_u32(b));
      sum[1] = vmlal_u32(sum[1], vget_high_u32(a), vget_high_u32(b));
    };
    key += 8;
    for (std::size_t s = 0; s < stripes; ++s, data += 64, key += 16) {
#pragma GCC unroll 2
      for (std::size_t i = 0; i < 2; ++i) {
        const uint32x4_t a = vaddq_u32(load(data + 16 * i), vld1q_u32(key + 4 * i));
        const uint32x4_t b = vaddq_u32(load(data + 16 * i + 32), vld1q_u32(key + 4 * i + 8));
        add_products(first, a, b);
        add_products(second, before[i], b);
        before[i] = a;
      }
    }
    add_products(second, before[0], vld1q_u32(key + 8));
    add_products(second, before[1], vld1q_u32(key + 12));
    return {total(first[0], first[1]), total(second[0], second[1])};
  }
};
#endif

}  // namespace

const HashFunctions nh_portable = Nh<Portable>::kFunctions;

#if defined(SELFHEAL_NH_SSE2)
const HashFunctions nh_sse2 = Nh<Sse2>::kFunctions;
#endif

#if defined(SELFHEAL_NH_NEON)
const HashFunctions nh_neon = Nh<Neon>::kFunctions;
#endif

}  // namespace selfheal::detail
