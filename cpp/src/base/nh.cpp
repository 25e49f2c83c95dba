#include <array>
#include <bit>
#include <cstring>

#include "base/hash_backends.hpp"
#include "base/siphash.hpp"

#if defined(SELFHEAL_NH_NEON)
#include <arm_neon.h>
#endif

namespace selfheal::detail {
namespace {

struct Word {
  using Type = std::uint64_t;
  static constexpr std::size_t kWords = 1;

  static Type zero() noexcept { return 0; }
  static Type load(const std::uint64_t* words) noexcept { return *words; }
  static Type load(const std::byte* data) noexcept {
    Type word = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&word, data, sizeof word);
    } else {
      for (std::size_t i = 8; i-- > 0;) word = word << 8 | std::to_integer<Type>(data[i]);
    }
    return word;
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const auto low = static_cast<std::uint32_t>(m) + static_cast<std::uint32_t>(k);
    const auto high = static_cast<std::uint32_t>(m >> 32) + static_cast<std::uint32_t>(k >> 32);
    return sum + Type{low} * high;
  }
  static std::uint64_t total(Type sum) noexcept { return sum; }
};

#if defined(SELFHEAL_NH_NEON)
struct Neon {
  using Type = uint64x2_t;
  static constexpr std::size_t kWords = 2;

  static Type zero() noexcept { return vdupq_n_u64(0); }
  static Type load(const void* from) noexcept {
    return vreinterpretq_u64_u8(vld1q_u8(static_cast<const std::uint8_t*>(from)));
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const Type words =
        vreinterpretq_u64_u32(vaddq_u32(vreinterpretq_u32_u64(m), vreinterpretq_u32_u64(k)));
    return vmlal_u32(sum, vmovn_u64(words), vshrn_n_u64(words, 32));
  }
  static std::uint64_t total(Type sum) noexcept {
    return vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1);
  }
};
#endif

struct ChunkSum {
  std::uint64_t first = 0;   // under key[0] …
  std::uint64_t second = 0;  // under key[8] …: one stripe on
};

// `sum` and that of `stripes`; key: 8 * (stripes + 1) words.
// Vector: registers of kWords 64-bit words with load, zero, accumulate (sum + NH products of m and
// k) and total.
template <typename Vector>
inline ChunkSum nh_sum(ChunkSum sum, const std::byte* data, std::size_t stripes,
                       const std::uint64_t* key) noexcept {
  constexpr std::size_t kVectors = 8 / Vector::kWords;
  typename Vector::Type first[kVectors];   // NOLINT: std::array refuses vector types
  typename Vector::Type second[kVectors];  // NOLINT: the same
  typename Vector::Type now[kVectors];     // NOLINT: the same
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    first[v] = second[v] = Vector::zero();
    now[v] = Vector::load(key + v * Vector::kWords);
  }
  for (std::size_t s = 0; s < stripes; ++s, data += 64) {
    key += 8;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto message = Vector::load(data + 8 * v * Vector::kWords);
      const auto next = Vector::load(key + v * Vector::kWords);
      first[v] = Vector::accumulate(first[v], message, now[v]);
      second[v] = Vector::accumulate(second[v], message, next);
      now[v] = next;
    }
  }
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    sum.first += Vector::total(first[v]);
    sum.second += Vector::total(second[v]);
  }
  return sum;
}

template <typename Vector>
inline std::uint64_t hash(const HashSchedule& schedule, std::uint64_t tweak,
                          std::span<const std::byte> bytes) noexcept {
  constexpr std::size_t kStripe = HashSchedule::kStripe;
  const std::uint64_t* const key = schedule.chunk_key();
  SipHash sip(schedule.sip_key());
  const std::byte* data = bytes.data();
  for (std::size_t left = bytes.size(); left > 0;) {
    const std::size_t size = left < HashSchedule::kChunk ? left : HashSchedule::kChunk;
    const std::size_t whole = size / kStripe;
    ChunkSum sum = nh_sum<Vector>({}, data, whole, key);
    if (const std::size_t rest = size % kStripe; rest != 0) {
      std::array<std::byte, kStripe> padded{};
      std::memcpy(padded.data(), data + whole * kStripe, rest);
      sum = nh_sum<Vector>(sum, padded.data(), 1, key + 8 * whole);
    }
    sip.absorb(sum.first);
    sip.absorb(sum.second);
    data += size;
    left -= size;
  }
  sip.absorb(tweak);
  // In 64 bits on every machine: the top byte holds the length of what was absorbed.
  const std::uint64_t chunks = (bytes.size() + HashSchedule::kChunk - 1) / HashSchedule::kChunk;
  return sip.finish_with(bytes.size() | ((16 * chunks + 15) & 0xFFU) << 56);
}

}  // namespace

std::uint64_t nh_hash(const HashSchedule& schedule, std::uint64_t tweak,
                      std::span<const std::byte> bytes) noexcept {
  return hash<Word>(schedule, tweak, bytes);
}

#if defined(SELFHEAL_NH_NEON)
std::uint64_t nh_hash_neon(const HashSchedule& schedule, std::uint64_t tweak,
                           std::span<const std::byte> bytes) noexcept {
  return hash<Neon>(schedule, tweak, bytes);
}
#endif

}  // namespace selfheal::detail
