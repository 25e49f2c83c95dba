// Compiled with -mavx512f, and only entered after the CPU was asked.
// GCC 12 takes the undefined lanes in its own header for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <array>

#include "nh.hpp"

namespace selfheal::detail {
namespace {

struct Avx512 {
  using Type = __m512i;
  static constexpr std::size_t kWords = 8;

  static Type zero() noexcept { return _mm512_setzero_si512(); }
  static Type load(const void* from) noexcept { return _mm512_loadu_si512(from); }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const Type words = _mm512_add_epi32(m, k);
    return _mm512_add_epi64(sum, _mm512_mul_epu32(words, _mm512_srli_epi64(words, 32)));
  }
  static std::uint64_t total(Type sum) noexcept {
    alignas(64) std::array<std::uint64_t, kWords> lanes;
    _mm512_store_si512(lanes.data(), sum);
    std::uint64_t all = 0;
    for (const std::uint64_t lane : lanes) all += lane;
    return all;
  }

  static Type all(std::uint64_t word) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(word));
  }
  static void store(void* to, Type words) noexcept { _mm512_storeu_si512(to, words); }
  static Type add(Type a, Type b) noexcept { return _mm512_add_epi64(a, b); }
  static Type bit_xor(Type a, Type b) noexcept { return _mm512_xor_si512(a, b); }
  template <int kBits>
  static Type rotl(Type a) noexcept {
    return _mm512_rol_epi64(a, kBits);
  }
  static Type totals(const Type* v) noexcept {
    const Type low = quarters(pairs(v[0], v[1]), pairs(v[2], v[3]));
    return quarters(low, quarters(pairs(v[4], v[5]), pairs(v[6], v[7])));
  }

 private:
  // Neighbouring words added: a's sums in even lanes, b's in odd ones.
  static Type pairs(Type a, Type b) noexcept {
    return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  }
  // Neighbouring quarters added: a's sums first, then b's.
  static Type quarters(Type a, Type b) noexcept {
    return _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
  }
};

}  // namespace

NhSum nh_avx512(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  return nh_sum<Avx512>(data, stripes, key);
}

void hash_eight_avx512(const HashSchedule& schedule, const std::uint64_t* tweaks,
                       const std::byte* const* blocks, std::size_t size, std::uint64_t* hashes,
                       std::span<const BlockCopy> copies) noexcept {
  hash_eight<Avx512>(schedule, tweaks, blocks, size, hashes, copies);
}

}  // namespace selfheal::detail
