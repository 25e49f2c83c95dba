#include "selfheal/keyed_hash.hpp"

#include <bit>
#include <cstring>

namespace selfheal {
namespace {

std::uint64_t little_endian(std::uint64_t word) noexcept {
  if constexpr (std::endian::native == std::endian::big) {
    std::uint64_t swapped = 0;
    for (int i = 0; i < 8; ++i) swapped |= ((word >> (8 * i)) & 0xFFU) << (56 - 8 * i);
    return swapped;
  }
  return word;
}

class State {
 public:
  explicit State(HashKey key) noexcept
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

std::uint64_t majority(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept {
  return (a & b) | (a & c) | (b & c);
}

}  // namespace

std::uint64_t keyed_hash(HashKey key, std::span<const std::byte> bytes) noexcept {
  return State(key).finish(bytes, 0);
}

std::uint64_t keyed_hash(HashKey key, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept {
  State state(key);
  state.absorb(tweak);
  return state.finish(bytes, sizeof tweak);
}

HashKey KeptKey::get() const noexcept {
  return {majority(copies_[0].k0, copies_[1].k0, copies_[2].k0),
          majority(copies_[0].k1, copies_[1].k1, copies_[2].k1)};
}

bool KeptKey::mend() noexcept {
  if (is_whole()) return false;
  copies_.fill(get());
  return true;
}

}  // namespace selfheal
