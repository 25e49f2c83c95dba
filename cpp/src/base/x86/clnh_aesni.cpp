// Compiled with -maes -mpclmul, and only entered after the CPU was asked.
#include <wmmintrin.h>

#include "base/clnh_hash.hpp"

namespace selfheal::detail {
namespace {

struct AesNi {
  using Type = __m128i;

  static Type load(const void* from) noexcept {
    return _mm_loadu_si128(static_cast<const Type*>(from));
  }
  static Type words(std::uint64_t low, std::uint64_t high) noexcept {
    return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
  }
  static std::uint64_t low(Type x) noexcept {
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(x));
  }
  static Type bit_xor(Type a, Type b) noexcept { return _mm_xor_si128(a, b); }
  static Type encrypt(Type x, const std::uint64_t* keys) noexcept {
    x = bit_xor(x, load(keys));
#pragma GCC unroll 9
    for (std::size_t round = 1; round < 10; ++round)
      x = _mm_aesenc_si128(x, load(keys + 2 * round));
    return _mm_aesenclast_si128(x, load(keys + 20));
  }
  static Type add_stripes(Type sum, const std::byte* data, std::size_t stripes,
                          const std::uint64_t* key) noexcept {
    for (std::size_t s = 0; s < stripes; ++s, data += kStripe, key += 8) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) {
        const Type both = bit_xor(load(data + 16 * v), load(key + 2 * v));
        sum = bit_xor(sum, _mm_clmulepi64_si128(both, both, 0x10));
      }
    }
    return sum;
  }
};

}  // namespace

std::uint64_t clnh_hash_aesni(const HashSchedule& schedule, std::uint64_t tweak,
                              std::span<const std::byte> bytes) noexcept {
  return clnh_hash<AesNi>(schedule, tweak, bytes);
}

void clnh_eight_aesni(const HashSchedule& schedule, std::uint64_t first_tweak,
                      const std::byte* const* blocks, std::size_t size,
                      std::uint64_t* hashes) noexcept {
  // Eight ciphers beside each other: one alone waits for itself at each round.
  __m128i states[8];  // NOLINT: std::array refuses vector types
  const std::uint64_t* const keys = schedule.round_keys();
  const auto encrypt = [&] {
    for (__m128i& x : states) x = AesNi::bit_xor(x, AesNi::load(keys));
    for (std::size_t round = 1; round < 10; ++round) {
      const __m128i key = AesNi::load(keys + 2 * round);
#pragma GCC unroll 8
      for (__m128i& x : states) x = _mm_aesenc_si128(x, key);
    }
    for (__m128i& x : states) x = _mm_aesenclast_si128(x, AesNi::load(keys + 20));
  };
  for (std::size_t i = 0; i < 8; ++i) states[i] = AesNi::words(first_tweak + i, size);
  encrypt();
  for (std::size_t i = 0; i < 8; ++i) {
    states[i] = AesNi::add_stripes(states[i], blocks[i], size / kStripe, schedule.chunk_key());
  }
  encrypt();
  for (std::size_t i = 0; i < 8; ++i) hashes[i] = AesNi::low(states[i]);
}

}  // namespace selfheal::detail
