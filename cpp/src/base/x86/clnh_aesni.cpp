// Compiled with -maes -mpclmul, and only entered after the CPU was asked.
#include "base/x86/clnh_aesni.hpp"

namespace selfheal::detail {

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
