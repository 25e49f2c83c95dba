#pragma once

// CLNH under AES (keyed_hash.hpp), for any instruction set that has both. Included by source files
// that are compiled under flags of their own, hence no external linkage.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/hash_backends.hpp"

namespace selfheal::detail {
namespace {

constexpr std::size_t kStripe = HashSchedule::kStripe;
constexpr std::size_t kStripesInChunk = HashSchedule::kChunk / kStripe;

// Block: 16 bytes in a register: Type, words(low, high), low, bit_xor, encrypt(x, round keys), and
// add_stripes(sum, data, stripes, key), which is CLNH.
template <typename Block>
inline std::uint64_t clnh_hash(const HashSchedule& schedule, std::uint64_t tweak,
                               std::span<const std::byte> bytes) noexcept {
  auto state = Block::encrypt(Block::words(tweak, bytes.size()), schedule.round_keys());
  const std::byte* data = bytes.data();
  for (std::size_t left = bytes.size(); left > 0;) {
    const std::uint64_t* const key = schedule.chunk_key();
    const std::size_t size = left < HashSchedule::kChunk ? left : HashSchedule::kChunk;
    const std::size_t whole = size / kStripe;
    auto sum = Block::add_stripes(Block::words(0, 0), data, whole, key);
    if (const std::size_t rest = size % kStripe; rest != 0) {
      std::array<std::byte, kStripe> padded{};
      std::memcpy(padded.data(), data + whole * kStripe, rest);
      sum = Block::add_stripes(sum, padded.data(), 1, key + 8 * whole);
    }
    state = Block::encrypt(Block::bit_xor(state, sum), schedule.round_keys());
    data += size;
    left -= size;
  }
  return Block::low(state);
}

}  // namespace
}  // namespace selfheal::detail
