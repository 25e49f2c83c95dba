#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "selfheal/base/keyed_hash.hpp"

namespace selfheal::detail {

inline std::uint64_t little_endian(std::uint64_t word) noexcept {
  if constexpr (std::endian::native == std::endian::big) {
    std::uint64_t swapped = 0;
    for (int i = 0; i < 8; ++i) swapped |= ((word >> (8 * i)) & 0xFFU) << (56 - 8 * i);
    return swapped;
  }
  return word;
}

/// SipHash-2-4, word by word.
class SipHash {
 public:
  explicit SipHash(HashKey key) noexcept
      : v0_(key.k0 ^ 0x736F6D6570736575U),
        v1_(key.k1 ^ 0x646F72616E646F6DU),
        v2_(key.k0 ^ 0x6C7967656E657261U),
        v3_(key.k1 ^ 0x7465646279746573U) {}

  void absorb(std::uint64_t word) noexcept {
    v3_ ^= word;
    round();
    round();
    v0_ ^= word;
  }

  // The whole words of `bytes`, then the rest with the length's low byte on top.
  std::uint64_t finish(std::span<const std::byte> bytes, std::size_t bytes_before) noexcept {
    const std::byte* data = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 8; left -= 8, data += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data, 8);
      absorb(little_endian(word));
    }
    std::uint64_t last = static_cast<std::uint64_t>((bytes.size() + bytes_before) & 0xFFU) << 56;
    for (std::size_t i = 0; i < left; ++i) {
      last |= std::to_integer<std::uint64_t>(data[i]) << (8 * i);
    }
    return finish_with(last);
  }

  // last: up to 7 bytes, the length's low byte on top.
  std::uint64_t finish_with(std::uint64_t last) noexcept {
    absorb(last);
    v2_ ^= 0xFFU;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void round() noexcept {
    v0_ += v1_;
    v2_ += v3_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v1_;
    v0_ += v3_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ = std::rotl(v2_, 32);
  }

  std::uint64_t v0_;
  std::uint64_t v1_;
  std::uint64_t v2_;
  std::uint64_t v3_;
};

}  // namespace selfheal::detail
