// Compiled with the cryptographic extension enabled, and only entered after the CPU was asked.
#include <arm_neon.h>

#include "base/clnh_hash.hpp"

namespace selfheal::detail {
namespace {

struct Neon {
  using Type = uint64x2_t;

  static Type load(const void* from) noexcept {
    return vreinterpretq_u64_u8(vld1q_u8(static_cast<const std::uint8_t*>(from)));
  }
  static Type words(std::uint64_t low, std::uint64_t high) noexcept {
    return vcombine_u64(vcreate_u64(low), vcreate_u64(high));
  }
  static std::uint64_t low(Type x) noexcept { return vgetq_lane_u64(x, 0); }
  static Type bit_xor(Type a, Type b) noexcept { return veorq_u64(a, b); }
  // ARM adds a round's key at its beginning, x86 at its end.
  static Type encrypt(Type x, const std::uint64_t* keys) noexcept {
    const auto key = [&](std::size_t round) {
      return vreinterpretq_u8_u64(load(keys + 2 * round));
    };
    std::uint8_t constexpr kLast = 9;
    uint8x16_t state = vreinterpretq_u8_u64(x);
    for (std::size_t round = 0; round < kLast; ++round) {
      state = vaesmcq_u8(vaeseq_u8(state, key(round)));
    }
    return vreinterpretq_u64_u8(veorq_u8(vaeseq_u8(state, key(kLast)), key(kLast + 1)));
  }
  static Type add_stripes(Type sum, const std::byte* data, std::size_t stripes,
                          const std::uint64_t* key) noexcept {
    for (std::size_t s = 0; s < stripes; ++s, data += kStripe, key += 8) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) {
        const Type both = bit_xor(load(data + 16 * v), load(key + 2 * v));
        const poly128_t product = vmull_p64(vgetq_lane_u64(both, 0), vgetq_lane_u64(both, 1));
        sum = bit_xor(sum, vreinterpretq_u64_p128(product));
      }
    }
    return sum;
  }
};

}  // namespace

std::uint64_t clnh_hash_neon(const HashSchedule& schedule, std::uint64_t tweak,
                             std::span<const std::byte> bytes) noexcept {
  return clnh_hash<Neon>(schedule, tweak, bytes);
}

}  // namespace selfheal::detail
