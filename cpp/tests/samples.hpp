#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace selfheal::testing {

inline std::vector<double> normal_samples(std::size_t count, std::uint64_t seed,
                                          double mean = 0.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> distribution(mean, 1.0);
  std::vector<double> samples(count);
  for (double& x : samples) x = distribution(engine);
  return samples;
}

inline std::vector<std::byte> random_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(engine());
  return bytes;
}

/// Adds the generator polynomial of CRC-32C to `block`, its first bit at `bit`: 18 flipped bits
/// that leave the checksum as it is.
inline void flip_keeping_crc(std::span<std::byte> block, std::size_t bit) {
  constexpr std::uint64_t kGenerator = 0x11EDC6F41U;
  for (std::size_t i = 0; i <= 32; ++i) {
    if (((kGenerator >> (32 - i)) & 1U) == 0) continue;
    block[(bit + i) / 8] ^= static_cast<std::byte>(1U << ((bit + i) % 8));
  }
}

}  // namespace selfheal::testing
