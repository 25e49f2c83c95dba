#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
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

}  // namespace selfheal::testing
