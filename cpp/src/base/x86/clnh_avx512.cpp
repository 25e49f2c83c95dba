// Compiled with -mavx512f -mvpclmulqdq -mvaes, and only entered after the CPU was asked.
// GCC 12 takes the undefined lanes in its own header for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "base/x86/clnh_aesni.hpp"

namespace selfheal::detail {
namespace {

inline __m512i load(const void* from) noexcept { return _mm512_loadu_si512(from); }

// CLNH in four lanes that are still to be added up. A number of stripes that is known unrolls
// everything.
template <std::size_t kStripes = 0>
inline __m512i add_stripes(__m512i sum, const std::byte* data, std::size_t stripes,
                           const std::uint64_t* key) noexcept {
  if (kStripes != 0) stripes = kStripes;
#pragma GCC unroll 8
  for (std::size_t s = 0; s < stripes; ++s) {
    const __m512i both = _mm512_xor_si512(load(data + kStripe * s), load(key + 8 * s));
    sum = _mm512_xor_si512(sum, _mm512_clmulepi64_epi128(both, both, 0x10));
  }
  return sum;
}

// Neighbouring lanes added up: a's sums first, then b's.
inline __m512i halves(__m512i a, __m512i b) noexcept {
  return _mm512_xor_si512(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
}

struct Avx512 : AesNi {
  static Type add_stripes(Type sum, const std::byte* data, std::size_t stripes,
                          const std::uint64_t* key) noexcept {
    const __m512i lanes = detail::add_stripes(_mm512_zextsi128_si512(sum), data, stripes, key);
    const __m256i two =
        _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    return bit_xor(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
  }
};

}  // namespace

std::uint64_t clnh_hash_avx512(const HashSchedule& schedule, std::uint64_t tweak,
                               std::span<const std::byte> bytes) noexcept {
  return clnh_hash<Avx512>(schedule, tweak, bytes);
}

void clnh_eight_avx512(const HashSchedule& schedule, std::uint64_t first_tweak,
                       const std::byte* const* blocks, std::size_t size,
                       std::uint64_t* hashes) noexcept {
  // Blocks 0 to 3 in the lanes of one register, 4 to 7 in those of the other.
  const auto encrypt = [&](__m512i& a, __m512i& b) {
    const auto key = [&](std::size_t round) {
      return _mm512_broadcast_i32x4(AesNi::load(schedule.round_keys() + 2 * round));
    };
    a = _mm512_xor_si512(a, key(0));
    b = _mm512_xor_si512(b, key(0));
#pragma GCC unroll 9
    for (std::size_t round = 1; round < 10; ++round) {
      a = _mm512_aesenc_epi128(a, key(round));
      b = _mm512_aesenc_epi128(b, key(round));
    }
    a = _mm512_aesenclast_epi128(a, key(10));
    b = _mm512_aesenclast_epi128(b, key(10));
  };
  const __m512i all = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(first_tweak)),
                                       _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
  const __m512i sizes = _mm512_set1_epi64(static_cast<long long>(size));
  const auto pairs = [&](__m512i order) { return _mm512_permutex2var_epi64(all, order, sizes); };
  __m512i low = pairs(_mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0));
  __m512i high = pairs(_mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4));
  encrypt(low, high);
  __m512i sums[8];  // NOLINT: std::array refuses vector types
  const __m512i zero = _mm512_setzero_si512();
  const std::uint64_t* const key = schedule.chunk_key();
  if (size == HashSchedule::kChunk) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) {
      sums[i] = add_stripes<kStripesInChunk>(zero, blocks[i], kStripesInChunk, key);
    }
  } else {
    for (std::size_t i = 0; i < 8; ++i) sums[i] = add_stripes(zero, blocks[i], size / kStripe, key);
  }
  const auto four = [&](std::size_t i) {
    return halves(halves(sums[i], sums[i + 1]), halves(sums[i + 2], sums[i + 3]));
  };
  low = _mm512_xor_si512(low, four(0));
  high = _mm512_xor_si512(high, four(4));
  encrypt(low, high);
  const __m512i order = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
  _mm512_storeu_si512(hashes, _mm512_permutex2var_epi64(low, order, high));
}

}  // namespace selfheal::detail
