#pragma once

// The vectors of tensor_sums_vectors.hpp on x86-64: 16 bytes with SSE2, 32 with AVX2, whichever
// the including source file is compiled for.

#include <immintrin.h>

#include "measure/tensor_sums_vectors.hpp"

namespace selfheal::detail {
namespace {

#ifdef __AVX2__
#define SELFHEAL_X86(name) _mm256_##name
#define SELFHEAL_X86_BITS(name) _mm256_##name##_si256
using X86Vector = __m256i;
#else
#define SELFHEAL_X86(name) _mm_##name
#define SELFHEAL_X86_BITS(name) _mm_##name##_si128
using X86Vector = __m128i;
#endif

struct X86 {
  using V = X86Vector;
  using Wide = X86Vector;       // sums of distances: 64 bits (of bytes), 32 bits (of 16 bits)
  using Products = X86Vector;   // 32 bits, for kBlock vectors
  using Squares16 = X86Vector;  // 64 bits

  static V load(const void* from) noexcept {
    return SELFHEAL_X86_BITS(loadu)(static_cast<const V*>(from));
  }
  static void store(void* to, V value) noexcept {
    SELFHEAL_X86_BITS(storeu)(static_cast<V*>(to), value);
  }
  static V splat(std::uint8_t value) noexcept {
    return SELFHEAL_X86(set1_epi8)(static_cast<char>(value));
  }
  static V splat16(std::uint16_t value) noexcept {
    return SELFHEAL_X86(set1_epi16)(static_cast<std::int16_t>(value));
  }
  static V flip(V value, V flips) noexcept { return SELFHEAL_X86_BITS(xor)(value, flips); }
  static V mask(V value, V mask) noexcept { return SELFHEAL_X86_BITS(and)(value, mask); }
  static V larger(V a, V b) noexcept { return SELFHEAL_X86(max_epu8)(a, b); }

  static Wide wide_zero() noexcept { return SELFHEAL_X86_BITS(setzero)(); }
  static Products products_zero() noexcept { return SELFHEAL_X86_BITS(setzero)(); }
  static Squares16 squares16_zero() noexcept { return SELFHEAL_X86_BITS(setzero)(); }

  // += the sum of |a - b|.
  static void add_distance(Wide& sum, V a, V b) noexcept {
    sum = SELFHEAL_X86(add_epi64)(sum, SELFHEAL_X86(sad_epu8)(a, b));
  }
  static void add_products(Products& sum, V a, V b) noexcept {
    const V zero = SELFHEAL_X86_BITS(setzero)();
    const V low = SELFHEAL_X86(madd_epi16)(SELFHEAL_X86(unpacklo_epi8)(a, zero),
                                           SELFHEAL_X86(unpacklo_epi8)(b, zero));
    const V high = SELFHEAL_X86(madd_epi16)(SELFHEAL_X86(unpackhi_epi8)(a, zero),
                                            SELFHEAL_X86(unpackhi_epi8)(b, zero));
    sum = SELFHEAL_X86(add_epi32)(sum, SELFHEAL_X86(add_epi32)(low, high));
  }
  static void add_squares_and_products(Products& squares, Products& products, V a, V b) noexcept {
    add_products(squares, a, a);
    add_products(products, a, b);
  }
  // One more in every byte where a equals b.
  static void count_equal(V& counts, V a, V b) noexcept {
    counts = SELFHEAL_X86(sub_epi8)(counts, SELFHEAL_X86(cmpeq_epi8)(a, b));
  }

  static std::int64_t fold(Wide sum) noexcept {
    alignas(V) std::int64_t lanes[sizeof(V) / 8];
    SELFHEAL_X86_BITS(store)(reinterpret_cast<V*>(lanes), sum);
    std::int64_t total = 0;
    for (const std::int64_t lane : lanes) total += lane;
    return total;
  }
  static std::int64_t fold_products(Products sum) noexcept { return fold(widened(sum)); }
  static std::int64_t fold_counts(V counts) noexcept {
    return fold(SELFHEAL_X86(sad_epu8)(counts, SELFHEAL_X86_BITS(setzero)()));
  }

  // 16 bits, signed: |a - b| <= 65535.
  static void add_distance16(Wide& sum, V a, V b) noexcept {
    const V zero = SELFHEAL_X86_BITS(setzero)();
    const V gap =
        SELFHEAL_X86(sub_epi16)(SELFHEAL_X86(max_epi16)(a, b), SELFHEAL_X86(min_epi16)(a, b));
    sum = SELFHEAL_X86(add_epi32)(sum,
                                  SELFHEAL_X86(add_epi32)(SELFHEAL_X86(unpacklo_epi16)(gap, zero),
                                                          SELFHEAL_X86(unpackhi_epi16)(gap, zero)));
  }
  static void add_squares16(Squares16& sum, V a) noexcept {
    sum = SELFHEAL_X86(add_epi64)(sum, widened(SELFHEAL_X86(madd_epi16)(a, a)));
  }
  static void count_equal16(V& counts, V a, V b) noexcept {
    counts = SELFHEAL_X86(sub_epi16)(counts, SELFHEAL_X86(cmpeq_epi16)(a, b));
  }
  static std::int64_t fold32(Wide sum) noexcept { return fold(widened(sum)); }
  static std::int64_t fold_squares16(Squares16 sum) noexcept { return fold(sum); }
  static std::int64_t fold_counts16(V counts) noexcept {
    return fold(widened(SELFHEAL_X86(madd_epi16)(counts, splat16(1))));
  }

 private:
  // Neighbouring unsigned 32 bits added, in 64.
  static V widened(V sum) noexcept {
    const V zero = SELFHEAL_X86_BITS(setzero)();
    return SELFHEAL_X86(add_epi64)(SELFHEAL_X86(unpacklo_epi32)(sum, zero),
                                   SELFHEAL_X86(unpackhi_epi32)(sum, zero));
  }
};

#undef SELFHEAL_X86
#undef SELFHEAL_X86_BITS

}  // namespace
}  // namespace selfheal::detail
