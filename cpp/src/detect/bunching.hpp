#pragma once

// How far terms that follow one another hang together, near and far. Set-up only.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace selfheal {

/// Sum of the mean products of two terms 1, 2, 3 ... places apart, and the variance of this
/// estimate times the number of terms; zeros where nothing stands out of the noise.
struct Bunching {
  double sum = 0.0;
  double variance = 0.0;
};

/// Of terms whose mean is known to be zero. Sums over blocks of 2, 4, 8 ... up to `longest` terms,
/// as long as there are 20 blocks: what their squares have over those of single terms is twice the
/// products within. The block length with the largest counts, of those where it is above 2.5
/// standard errors of independent terms, which the blocks' own spread tells: memory of any shape,
/// and periods of which 10 fit.
inline Bunching bunching_of(std::span<const double> terms, double longest) noexcept {
  constexpr std::size_t kLeastBlocks = 20;
  constexpr double kNoise = 2.5;
  const auto n = static_cast<double>(terms.size());
  double single = 0.0;
  for (const double term : terms) single += term * term;
  Bunching largest;
  for (std::size_t length = 2; terms.size() / length >= kLeastBlocks; length *= 2) {
    if (static_cast<double>(length) > longest) break;
    const std::size_t blocks = terms.size() / length;
    double squares = 0.0;
    double fourths = 0.0;
    for (std::size_t block = 0; block < blocks; ++block) {
      double sum = 0.0;
      for (const double term : terms.subspan(block * length, length)) sum += term;
      squares += sum * sum;
      fourths += sum * sum * sum * sum;
    }
    const auto count = static_cast<double>(blocks);
    const double mean = squares / count;
    const double per_term = mean / static_cast<double>(length);
    const double error = std::sqrt(std::max(0.0, fourths / count - mean * mean) / count) /
                         static_cast<double>(length);
    const double sum = 0.5 * (per_term - single / n);
    // What the error would be if the terms were independent.
    const double noise = error * (single / n) / per_term;
    if (2.0 * sum > kNoise * noise && sum > largest.sum) largest = {sum, 0.25 * error * error * n};
  }
  return largest;
}

}  // namespace selfheal
