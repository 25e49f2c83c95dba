#pragma once

// Reference::score, for source files of any instruction set. The results are the same to the bit.

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "base/vector_part.hpp"
#include "selfheal/detect/reference.hpp"

namespace selfheal {
namespace {

// How many of the sixteen rising values are <= x.
inline std::size_t count_not_above(const double* values, double x) noexcept {
#ifdef __AVX2__
  const __m256d sought = _mm256_set1_pd(x);
  const auto held = [&](std::size_t i) noexcept {
    return _mm256_castpd_si256(_mm256_cmp_pd(_mm256_loadu_pd(values + i), sought, _CMP_LE_OQ));
  };
  const __m256i low = _mm256_packs_epi32(held(0), held(4));
  const __m256i high = _mm256_packs_epi32(held(8), held(12));
  // Two bits for every value, in another order.
  const int bits = _mm256_movemask_epi8(_mm256_packs_epi16(low, high));
  return static_cast<std::size_t>(__builtin_popcount(static_cast<unsigned>(bits))) / 2;
#else
  const DoublePart sought = DoublePart{} + x;
  MaskPart held{};
  for (std::size_t i = 0; i < ReferenceTable::kCoarse; i += kPartWidth) {
    DoublePart part{};
    load_part(values + i, part);
    held -= part <= sought;
  }
  std::int64_t count = 0;
  for (std::size_t lane = 0; lane < kPartWidth; ++lane) count += held[lane];
  return static_cast<std::size_t>(count);
#endif
}

// Written so that an infinite distance gives the bound and a tiny one gives no NaN.
inline double score_beyond(double distance, double extreme_score, double unit) noexcept {
  constexpr double kBound = Reference::kBound;
  const double room = kBound - extreme_score;
  const double score = extreme_score + room / (room / (distance / unit) + 1.0);
  return score < kBound ? score : kBound;
}

// x is not NaN.
inline double score_of(const ReferenceTable& table, double x) noexcept {
  const std::size_t last = table.knots - 1;
  if (x > table.values[last]) [[unlikely]] {
    return score_beyond(x - table.values[last], table.highest_score(), table.unit);
  }
  if (x < table.values[0]) [[unlikely]] {
    return -score_beyond(table.values[0] - x, -table.lowest_score(), table.unit);
  }
  const std::size_t block = (count_not_above(table.coarse, x) - 1) * ReferenceTable::kCoarse;
  const std::size_t below = block + count_not_above(table.values + block, x) - 1;
  const ReferenceTable::Segment& at = table.segments[below];
  const double above_score = table.segments[below + 1].score;
  const double score = at.score + (x - table.values[below]) * at.slope;
  // Rounding must not lift a value above the knot that follows it.
  return score < above_score ? score : above_score;
}

}  // namespace
}  // namespace selfheal
