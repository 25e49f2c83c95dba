#pragma once

// The keyed hash (keyed_hash.hpp) over any instruction set's sums of products. Included by source
// files that are compiled under flags of their own, hence no external linkage.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "base/hash_backends.hpp"
#include "base/siphash.hpp"

namespace selfheal::detail {
namespace {

struct ChunkSum {
  std::uint64_t first = 0;   // products within stripes
  std::uint64_t second = 0;  // products of each stripe's first half with the next one's second
};

/// A number modulo 2^128.
#ifdef __SIZEOF_INT128__
__extension__ using Wide = unsigned __int128;

inline Wide wide(std::uint64_t low, std::uint64_t high) noexcept {
  return static_cast<Wide>(high) << 64 | low;
}
inline std::uint64_t upper(Wide x) noexcept { return static_cast<std::uint64_t>(x >> 64); }
#else
struct Wide {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  Wide& operator+=(Wide x) noexcept {
    low += x.low;
    high += x.high + (low < x.low ? 1 : 0);
    return *this;
  }
};

inline Wide operator*(Wide a, std::uint64_t b) noexcept {
  const std::uint64_t a0 = a.low & 0xFFFFFFFFU;
  const std::uint64_t a1 = a.low >> 32;
  const std::uint64_t b0 = b & 0xFFFFFFFFU;
  const std::uint64_t b1 = b >> 32;
  const std::uint64_t low = a0 * b0;
  const std::uint64_t middle = a1 * b0 + (low >> 32);
  const std::uint64_t other = a0 * b1 + (middle & 0xFFFFFFFFU);
  return {other << 32 | (low & 0xFFFFFFFFU), a1 * b1 + (middle >> 32) + (other >> 32) + a.high * b};
}

inline Wide wide(std::uint64_t low, std::uint64_t high) noexcept { return {low, high}; }
inline std::uint64_t upper(Wide x) noexcept { return x.high; }
#endif

// Sums: of(data, stripes, key) gives those of whole stripes.
template <typename Sums>
inline ChunkSum chunk_sum(const HashSchedule& schedule, const std::byte* data,
                          std::size_t size) noexcept {
  constexpr std::size_t kStripe = HashSchedule::kStripe;
  std::array<std::byte, HashSchedule::kChunk> padded;
  const std::size_t stripes = (size + kStripe - 1) / kStripe;
  if (size % kStripe != 0) {
    std::memset(padded.data() + (stripes - 1) * kStripe, 0, kStripe);
    std::memcpy(padded.data(), data, size);
    data = padded.data();
  }
  return Sums::of(data, stripes, schedule.chunk_key());
}

template <typename Sums>
[[gnu::noinline]] std::uint64_t long_hash(const HashSchedule& schedule, std::uint64_t tweak,
                                          std::span<const std::byte> bytes) noexcept {
  SipHash sip(schedule.sip_key());
  const std::byte* data = bytes.data();
  for (std::size_t left = bytes.size(); left > 0;) {
    const std::size_t size = left < HashSchedule::kChunk ? left : HashSchedule::kChunk;
    const ChunkSum sum = chunk_sum<Sums>(schedule, data, size);
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

// Calls take(i, hash) with the hash of block(i), of `size` bytes each, for i below count. Tweaks do
// not go round.
template <typename Sums, typename Block, typename Take>
[[gnu::always_inline]] inline void each_hash(const HashSchedule& schedule,
                                             std::uint64_t first_tweak, std::size_t count,
                                             std::size_t size, Block block, Take take) noexcept {
  if (size > HashSchedule::kChunk) {
    for (std::size_t i = 0; i < count; ++i) {
      take(i, long_hash<Sums>(schedule, first_tweak + i, {block(i), size}));
    }
    return;
  }
  const auto factor = [words = schedule.factors()](std::size_t i) {
    return wide(words[2 * i], words[2 * i + 1]);
  };
  const Wide by_first = factor(0);
  const Wide by_second = factor(1);
  const Wide by_tweak = factor(2);
  Wide place = factor(4);
  place += factor(3) * size;
  place += by_tweak * first_tweak;
  const auto finish = [&](ChunkSum sum) {
    Wide total = place;
    total += by_first * sum.first;
    total += by_second * sum.second;
    place += by_tweak;
    return upper(total);
  };
  if (size == HashSchedule::kChunk) {  // how long the loop is is known then: it is unrolled
    for (std::size_t i = 0; i < count; ++i) {
      take(i, finish(Sums::of(block(i), HashSchedule::kStripes, schedule.chunk_key())));
    }
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    take(i, finish(chunk_sum<Sums>(schedule, block(i), size)));
  }
}

template <typename Sums>
struct Nh {
  static void hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                     const std::byte* const* blocks, std::size_t count, std::size_t size,
                     std::uint64_t* hashes) noexcept {
    const std::uint64_t before =
        -first_tweak;  // tweaks until they go round; 0: more than any count
    const std::size_t part =
        before != 0 && before < count ? static_cast<std::size_t>(before) : count;
    each_hash<Sums>(
        schedule, first_tweak, part, size, [blocks](std::size_t i) { return blocks[i]; },
        [hashes](std::size_t i, std::uint64_t hash) { hashes[i] = hash; });
    if (part < count) Nh::hashes(schedule, 0, blocks + part, count - part, size, hashes + part);
  }
  static bool match(const HashSchedule& schedule, std::uint64_t first_tweak,
                    const std::byte* blocks, std::size_t count, std::size_t size,
                    const std::uint64_t* one, const std::uint64_t* other) noexcept {
    std::uint64_t wrong = 0;  // without a branch a block
    each_hash<Sums>(
        schedule, first_tweak, count, size,
        [blocks, size](std::size_t i) { return blocks + i * size; },
        [&wrong, one, other](std::size_t i, std::uint64_t hash) {
          wrong |= (one[i] ^ hash) | (other[i] ^ hash);
        });
    return wrong == 0;
  }
  static constexpr HashFunctions kFunctions{&hashes, &match};
};

}  // namespace
}  // namespace selfheal::detail
