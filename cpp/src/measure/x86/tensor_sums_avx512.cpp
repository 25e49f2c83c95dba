// The vectors of tensor_sums_vectors.hpp with AVX-512: 64 bytes.

// GCC 12 takes the placeholders in its own header for variables that were never set.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "measure/tensor_sums_vectors.hpp"

namespace selfheal::detail {
namespace {

struct X512 {
  using V = __m512i;
  using Wide = __m512i;       // sums of distances: 64 bits (of bytes), 32 bits (of 16 bits)
  using Products = __m512i;   // 32 bits, for kBlock vectors
  using Squares16 = __m512i;  // 64 bits

  static V load(const void* from) noexcept { return _mm512_loadu_si512(from); }
  static void store(void* to, V value) noexcept { _mm512_storeu_si512(to, value); }
  static V splat(std::uint8_t value) noexcept { return _mm512_set1_epi8(static_cast<char>(value)); }
  static V splat16(std::uint16_t value) noexcept {
    return _mm512_set1_epi16(static_cast<std::int16_t>(value));
  }
  static V flip(V value, V flips) noexcept { return _mm512_xor_si512(value, flips); }
  static V mask(V value, V mask) noexcept { return _mm512_and_si512(value, mask); }
  static V larger(V a, V b) noexcept { return _mm512_max_epu8(a, b); }

  static Wide wide_zero() noexcept { return _mm512_setzero_si512(); }
  static Products products_zero() noexcept { return _mm512_setzero_si512(); }
  static Squares16 squares16_zero() noexcept { return _mm512_setzero_si512(); }

  // += the sum of |a - b|.
  static void add_distance(Wide& sum, V a, V b) noexcept {
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(a, b));
  }
  static void add_products(Products& sum, V a, V b) noexcept {
    const V zero = _mm512_setzero_si512();
    const V low = _mm512_madd_epi16(_mm512_unpacklo_epi8(a, zero), _mm512_unpacklo_epi8(b, zero));
    const V high = _mm512_madd_epi16(_mm512_unpackhi_epi8(a, zero), _mm512_unpackhi_epi8(b, zero));
    sum = _mm512_add_epi32(sum, _mm512_add_epi32(low, high));
  }
  static void add_squares_and_products(Products& squares, Products& products, V a, V b) noexcept {
    add_products(squares, a, a);
    add_products(products, a, b);
  }
  // One more in every byte where a equals b.
  static void count_equal(V& counts, V a, V b) noexcept {
    counts = _mm512_sub_epi8(counts, _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(a, b)));
  }

  static std::int64_t fold(Wide sum) noexcept {
    alignas(V) std::int64_t lanes[sizeof(V) / 8];
    _mm512_store_si512(lanes, sum);
    std::int64_t total = 0;
    for (const std::int64_t lane : lanes) total += lane;
    return total;
  }
  static std::int64_t fold_products(Products sum) noexcept { return fold(widened(sum)); }
  static std::int64_t fold_counts(V counts) noexcept {
    return fold(_mm512_sad_epu8(counts, _mm512_setzero_si512()));
  }

  // 16 bits, signed: |a - b| <= 65535.
  static void add_distance16(Wide& sum, V a, V b) noexcept {
    const V zero = _mm512_setzero_si512();
    const V gap = _mm512_sub_epi16(_mm512_max_epi16(a, b), _mm512_min_epi16(a, b));
    sum = _mm512_add_epi32(
        sum, _mm512_add_epi32(_mm512_unpacklo_epi16(gap, zero), _mm512_unpackhi_epi16(gap, zero)));
  }
  static void add_squares16(Squares16& sum, V a) noexcept {
    sum = _mm512_add_epi64(sum, widened(_mm512_madd_epi16(a, a)));
  }
  static void count_equal16(V& counts, V a, V b) noexcept {
    counts = _mm512_sub_epi16(counts, _mm512_movm_epi16(_mm512_cmpeq_epi16_mask(a, b)));
  }
  static std::int64_t fold32(Wide sum) noexcept { return fold(widened(sum)); }
  static std::int64_t fold_squares16(Squares16 sum) noexcept { return fold(sum); }
  static std::int64_t fold_counts16(V counts) noexcept {
    return fold(widened(_mm512_madd_epi16(counts, splat16(1))));
  }

 private:
  // Neighbouring unsigned 32 bits added, in 64.
  static V widened(V sum) noexcept {
    const V zero = _mm512_setzero_si512();
    return _mm512_add_epi64(_mm512_unpacklo_epi32(sum, zero), _mm512_unpackhi_epi32(sum, zero));
  }
};

}  // namespace

const TensorSums avx512_sums = Kernels<X512>::table("avx512");

}  // namespace selfheal::detail
