// Compiled with -mavx2, and only entered after the CPU was asked.
#include <immintrin.h>

#include "base/nh_hash.hpp"

namespace selfheal::detail {
namespace {

struct Avx2 {
  static __m256i load(const void* from) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }
  // Words in even places, and those in odd ones moved there.
  struct Words {
    __m256i even;
    __m256i odd;
  };
  static Words words(__m256i all) noexcept { return {all, _mm256_srli_epi64(all, 32)}; }
  static __m256i add_products(__m256i sum, const Words& a, const Words& b) noexcept {
    return _mm256_add_epi64(
        sum, _mm256_add_epi64(_mm256_mul_epu32(a.even, b.even), _mm256_mul_epu32(a.odd, b.odd)));
  }
  [[gnu::always_inline]] static ChunkSum of(const std::byte* data, std::size_t stripes,
                                            const std::uint32_t* key) noexcept {
    __m256i first = _mm256_setzero_si256();
    __m256i second = _mm256_setzero_si256();
    Words before = words(load(key));
    key += 8;
#pragma GCC unroll 8
    for (std::size_t s = 0; s < stripes; ++s, data += 64, key += 16) {
      const Words a = words(_mm256_add_epi32(load(data), load(key)));
      const Words b = words(_mm256_add_epi32(load(data + 32), load(key + 8)));
      first = add_products(first, a, b);
      second = add_products(second, before, b);
      before = a;
    }
    second = add_products(second, before, words(load(key + 8)));
    // Both totals in one register: lanes of `first` below those of `second`.
    const __m256i lanes = _mm256_add_epi64(_mm256_unpacklo_epi64(first, second),
                                           _mm256_unpackhi_epi64(first, second));
    const __m128i totals =
        _mm_add_epi64(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    return {static_cast<std::uint64_t>(_mm_cvtsi128_si64(totals)),
            static_cast<std::uint64_t>(_mm_extract_epi64(totals, 1))};
  }
};

}  // namespace

const HashFunctions nh_avx2 = Nh<Avx2>::kFunctions;

}  // namespace selfheal::detail
