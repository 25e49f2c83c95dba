// Compiled with -mavx512f -mavx512vl -mvpclmulqdq -mpclmul -msse4.2, and only entered after the CPU
// was asked.
// GCC 12 takes the undefined lanes in its own header for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "base/crc32c_backends.hpp"

namespace selfheal::detail {
namespace {

// Folding (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel, 2009), 64 bytes a register and four registers side by side: what lies d bits
// ahead is multiplied by x^d mod P and added to what is there. In reflected order a carry-less
// product of a lane and a 33-bit constant falls one bit short, hence x^(d + 64 - 1) for a lane's
// first eight bytes, x^(d - 1) for its last. What is left, 16 bytes with the same remainder as all
// of them, goes through the crc32 instruction.
constexpr std::uint64_t power(std::size_t exponent) noexcept {
  std::uint32_t state = 0x80000000U;  // x^0
  for (std::size_t i = 0; i < exponent; ++i) state = crc32c_times_x(state);
  return std::uint64_t{state} << 32;  // reflected into 64 bits
}

struct Factors {
  std::uint64_t first;
  std::uint64_t last;
};

constexpr Factors factors(std::size_t bytes) noexcept {
  return {power(8 * bytes + 64 - 1), power(8 * bytes - 1)};
}

constexpr Factors k256 = factors(256);
constexpr Factors k64 = factors(64);
constexpr std::array<Factors, 4> kLanes = {factors(48), factors(32), factors(16), Factors{0, 0}};

inline __m512i all(Factors by) noexcept {
  return _mm512_broadcast_i32x4(
      _mm_set_epi64x(static_cast<long long>(by.last), static_cast<long long>(by.first)));
}

inline __m512i fold(__m512i value, __m512i by, __m512i next) noexcept {
  const __m512i first = _mm512_clmulepi64_epi128(value, by, 0x00);
  const __m512i last = _mm512_clmulepi64_epi128(value, by, 0x11);
  return _mm512_ternarylogic_epi64(first, last, next, 0x96);  // xor of the three
}

inline __m512i load(const std::byte* data) noexcept { return _mm512_loadu_si512(data); }

}  // namespace

bool crc32c_avx512_runs() noexcept {
  __builtin_cpu_init();
  return crc32c_sse42_runs() && __builtin_cpu_supports("avx512f") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0;
}

std::uint32_t crc32c_avx512(std::uint32_t state, const std::byte* data, std::size_t size) noexcept {
  if (size < 256) return crc32c_sse42(state, data, size);
  __m512i a = _mm512_xor_si512(load(data),
                               _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  __m512i b = load(data + 64);
  __m512i c = load(data + 128);
  __m512i d = load(data + 192);
  const __m512i by256 = all(k256);
  for (data += 256, size -= 256; size >= 256; data += 256, size -= 256) {
    a = fold(a, by256, load(data));
    b = fold(b, by256, load(data + 64));
    c = fold(c, by256, load(data + 128));
    d = fold(d, by256, load(data + 192));
  }
  const __m512i by64 = all(k64);
  a = fold(fold(fold(a, by64, b), by64, c), by64, d);
  for (; size >= 64; data += 64, size -= 64) a = fold(a, by64, load(data));
  // The four lanes into the last one, which has no factor of its own.
  const __m512i lanes = _mm512_loadu_si512(kLanes.data());
  const __m512i last = _mm512_maskz_mov_epi64(0xC0, a);
  a = fold(a, lanes, last);
  const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
  const __m128i rest =
      _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  std::uint64_t crc = _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(rest)));
  crc = _mm_crc32_u64(crc, static_cast<std::uint64_t>(_mm_extract_epi64(rest, 1)));
  return crc32c_sse42(static_cast<std::uint32_t>(crc), data, size);
}

}  // namespace selfheal::detail
