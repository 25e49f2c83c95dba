// Compiled with -msse4.2 -mpclmul, and only entered after the CPU was asked.
#include <nmmintrin.h>
#include <wmmintrin.h>

#include <cstring>

#include "base/crc32c_backends.hpp"

namespace selfheal::detail {
namespace {

// One crc32 instruction takes three cycles and one may start every cycle, so three independent
// streams keep it busy. A chunk is three streams of `words` 8-byte words that lie one after the
// other; afterwards their registers are joined:
//
//     joined = A * x^(128 words) + B * x^(64 words) + C   (mod P)
//
// In reflected order, a carry-less product of two registers a, k followed by crc32(0, product) is
// a * k * x^33 mod P (x^1 from the product's missing bit, x^32 from the instruction), hence the
// factor x^(64 words - 33) (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32
// Instruction", Intel, 2011).
// No power of two: streams so far apart would share places in the cache.
constexpr std::size_t kMaxWords = 344;

constexpr std::array<std::uint32_t, 2 * kMaxWords + 1> make_factors() noexcept {
  std::array<std::uint32_t, 2 * kMaxWords + 1> factors{};
  std::uint32_t power = 1;  // x^31
  for (std::size_t words = 1; words < factors.size(); ++words) {
    factors[words] = power;
    for (int bit = 0; bit < 64; ++bit) power = crc32c_times_x(power);
  }
  return factors;
}

constexpr auto kFactors = make_factors();

inline std::uint64_t load64(const std::byte* data) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

inline std::uint64_t product(std::uint64_t state, std::uint32_t factor) noexcept {
  const __m128i a = _mm_cvtsi64_si128(static_cast<long long>(state));
  const __m128i b = _mm_cvtsi32_si128(static_cast<int>(factor));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_clmulepi64_si128(a, b, 0)));
}

}  // namespace

std::uint32_t crc32c_sse42(std::uint32_t state, const std::byte* data, std::size_t size) noexcept {
  std::uint64_t a = state;
  while (size >= 96) {
    const std::size_t words = size / 24 < kMaxWords ? size / 24 : kMaxWords;
    const std::size_t stride = 8 * words;
    std::uint64_t b = 0;
    std::uint64_t c = 0;
    const std::byte* const end = data + stride;
    const auto step = [&](std::size_t offset) {
      a = _mm_crc32_u64(a, load64(data + offset));
      b = _mm_crc32_u64(b, load64(data + offset + stride));
      c = _mm_crc32_u64(c, load64(data + offset + 2 * stride));
    };
    for (; end - data >= 64; data += 64) {
      // The same lines of the next chunk: three streams that change every few KiB are more than
      // processors foresee.
      for (std::size_t i = 3; i < 6; ++i) {
        _mm_prefetch(reinterpret_cast<const char*>(data + i * stride), _MM_HINT_T0);
      }
#pragma GCC unroll 8
      for (std::size_t offset = 0; offset < 64; offset += 8) step(offset);
    }
    for (; data != end; data += 8) step(0);
    a = c ^ _mm_crc32_u64(0, product(a, kFactors[2 * words]) ^ product(b, kFactors[words]));
    data += 2 * stride;
    size -= 3 * stride;
  }
  for (; size >= 8; data += 8, size -= 8) a = _mm_crc32_u64(a, load64(data));
  auto narrow = static_cast<std::uint32_t>(a);
  for (; size > 0; ++data, --size) {
    narrow = _mm_crc32_u8(narrow, std::to_integer<unsigned char>(*data));
  }
  return narrow;
}

}  // namespace selfheal::detail
