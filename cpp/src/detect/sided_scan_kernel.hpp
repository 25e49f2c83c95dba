#pragma once

// Included by one source file per instruction set; GCC's and Clang's vector types.

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "detect/sided_scan.hpp"

namespace selfheal {
namespace {

// Wider types than the instruction set has would be taken apart, comparisons at great cost.
#if defined(__AVX512F__)
constexpr std::size_t kWidth = 8;
#elif defined(__AVX2__)
constexpr std::size_t kWidth = 4;
#else
constexpr std::size_t kWidth = 2;
#endif
using Part = double __attribute__((vector_size(kWidth * sizeof(double))));

// Samples that are loaded at once: so many columns of kWidth lanes.
constexpr std::size_t kColumns = 4;
using Columns = std::array<Part, kColumns>;

// Vectors go by reference: passed by value, they would depend on the instruction set's ABI.
// Lanes lie kStride samples apart. Loading them one by one costs more than all the arithmetic, so
// runs of four are loaded and turned. (Masks of ones: GCC 12 warns of the plain forms in its
// header.)
#if defined(__AVX512F__)
inline __m256 two_lanes(const float* samples) noexcept {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(samples)),
                              _mm_loadu_ps(samples + 4 * OnsetTracker::kStride), 1);
}
inline void load_columns(const float* samples, Columns& out) noexcept {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  const __m256 a = two_lanes(samples);
  const __m256 b = two_lanes(samples + kStride);
  const __m256 c = two_lanes(samples + 2 * kStride);
  const __m256 d = two_lanes(samples + 3 * kStride);
  const __m256d ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  const __m256d cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
  const __m256d cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  out[0] = _mm512_maskz_cvtps_pd(0xff, _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low)));
  out[1] = _mm512_maskz_cvtps_pd(0xff, _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low)));
  out[2] = _mm512_maskz_cvtps_pd(0xff, _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high)));
  out[3] = _mm512_maskz_cvtps_pd(0xff, _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high)));
}
#elif defined(__AVX2__)
inline void load_columns(const float* samples, Columns& out) noexcept {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(samples));
  const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(samples + kStride));
  const __m256d c = _mm256_cvtps_pd(_mm_loadu_ps(samples + 2 * kStride));
  const __m256d d = _mm256_cvtps_pd(_mm_loadu_ps(samples + 3 * kStride));
  const __m256d ab_even = _mm256_unpacklo_pd(a, b);
  const __m256d ab_odd = _mm256_unpackhi_pd(a, b);
  const __m256d cd_even = _mm256_unpacklo_pd(c, d);
  const __m256d cd_odd = _mm256_unpackhi_pd(c, d);
  out[0] = _mm256_permute2f128_pd(ab_even, cd_even, 0x20);
  out[1] = _mm256_permute2f128_pd(ab_odd, cd_odd, 0x20);
  out[2] = _mm256_permute2f128_pd(ab_even, cd_even, 0x31);
  out[3] = _mm256_permute2f128_pd(ab_odd, cd_odd, 0x31);
}
#endif

#ifdef __AVX2__
// Two samples of each of four lanes, turned.
inline void load_pairs(const double* samples, __m256d& even, __m256d& odd) noexcept {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  const auto halves = [](const double* low, const double* high) {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(low)), _mm_loadu_pd(high), 1);
  };
  const __m256d outer = halves(samples, samples + 2 * kStride);
  const __m256d inner = halves(samples + kStride, samples + 3 * kStride);
  even = _mm256_unpacklo_pd(outer, inner);
  odd = _mm256_unpackhi_pd(outer, inner);
}
inline void load_columns(const double* samples, Columns& out) noexcept {
  for (std::size_t i = 0; i < kColumns; i += 2) {
#ifdef __AVX512F__
    __m256d even{};
    __m256d odd{};
    __m256d even_high{};
    __m256d odd_high{};
    load_pairs(samples + i, even, odd);
    load_pairs(samples + i + 4 * OnsetTracker::kStride, even_high, odd_high);
    out[i] = _mm512_maskz_insertf64x4(0xff, _mm512_castpd256_pd512(even), even_high, 1);
    out[i + 1] = _mm512_maskz_insertf64x4(0xff, _mm512_castpd256_pd512(odd), odd_high, 1);
#else
    load_pairs(samples + i, out[i], out[i + 1]);
#endif
  }
}
#else
template <typename T>
inline void load_columns(const T* samples, Columns& out) noexcept {
  for (std::size_t i = 0; i < kColumns; ++i) {
    for (std::size_t lane = 0; lane < kWidth; ++lane) {
      out[i][lane] = static_cast<double>(samples[lane * OnsetTracker::kStride + i]);
    }
  }
}
#endif

// The larger; `other` where `value` is NaN. Compilers do not always see the one instruction.
inline void raise(Part& value, const Part& other) noexcept {
#if defined(__AVX512F__)
  value = _mm512_maskz_max_pd(0xff, value, other);
#elif defined(__AVX2__)
  value = _mm256_max_pd(value, other);
#elif defined(__SSE2__)
  value = _mm_max_pd(value, other);
#else
  value = value > other ? value : other;
#endif
}

inline void store(const Part& part, double* out) noexcept {
  __builtin_memcpy(out, &part, sizeof part);
}

struct Constants {
  Part mean;
  Part scale;
  Part grid;
  // Taken away where only the grid's shift would be: exact, since the allowance is on the grid.
  Part grid_up;
  Part grid_down;
};

// What kWidth lanes have come to.
struct Running {
  Part sum{};
  Part up{};
  Part up_top{};
  Part down{};
  Part down_top{};

  void take(const Part& x, const Constants& c) noexcept {
    const Part zero{};
    const Part shifted = (x - c.mean) * c.scale + c.grid;
    const Part step_up = shifted - c.grid_up;
    sum += step_up;
    up += step_up;
    raise(up, zero);
    raise(up_top, up);
    down -= shifted - c.grid_down;
    raise(down, zero);
    raise(down_top, down);
  }

  void put(ScanResult& result, std::size_t lane, const Part& fallen) const noexcept {
    const Part z_sum = sum + fallen;
    store(sum, &result.sum[lane]);
    store(z_sum, &result.z_sum[lane]);
    store(up, &result.up_end[lane]);
    store(up_top, &result.up_top[lane]);
    store(down, &result.down_end[lane]);
    store(down_top, &result.down_top[lane]);
  }
};

template <typename T>
void scan_block(const T* samples, const ScanParameters& p, ScanResult& result) noexcept {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  const Part zero{};
  const Part fallen = zero + static_cast<double>(kStride) * p.allowance;
  const Constants c{zero + p.mean, zero + p.reciprocal_std, zero + kGridShift,
                    zero + (kGridShift + p.allowance), zero + (kGridShift - p.allowance)};
  Part total{};
  // Two at a time: their chains of additions run side by side, and all fits into the registers.
  for (std::size_t lane = 0; lane < kScanLanes; lane += 2 * kWidth) {
    const T* const low = samples + lane * kStride;
    const T* const high = low + kWidth * kStride;
    Running first;
    Running second;
    for (std::size_t i = 0; i < kStride; i += kColumns) {
      Columns here;
      Columns there;
      load_columns(low + i, here);
      load_columns(high + i, there);
      for (std::size_t j = 0; j < kColumns; ++j) {
        first.take(here[j], c);
        second.take(there[j], c);
      }
    }
    first.put(result, lane, fallen);
    second.put(result, lane + kWidth, fallen);
    total += first.sum + second.sum;
  }
  double all = 0.0;
  for (std::size_t lane = 0; lane < kWidth; ++lane) all += total[lane];
  result.is_finite = all - all == 0.0;
}

inline void load(const double* from, Part& part) noexcept {
  __builtin_memcpy(&part, from, sizeof part);
}

inline void load(const float* from, Part& part) noexcept {
  using Floats = float __attribute__((vector_size(kWidth * sizeof(float))));
  Floats floats;
  __builtin_memcpy(&floats, from, sizeof floats);
  part = __builtin_convertvector(floats, Part);
}

// kWidth charts.
struct Side {
  Part mean;
  Part scale;
  Part up_allowance;
  Part down_allowance;
  Part up;
  Part down;
  Part up_top{};
  Part down_top{};
  Part sum{};

  void read(const SideLanes& lanes, std::size_t lane) noexcept {
    load(&lanes.mean[lane], mean);
    load(&lanes.reciprocal_std[lane], scale);
    load(&lanes.up_allowance[lane], up_allowance);
    load(&lanes.down_allowance[lane], down_allowance);
    load(&lanes.upper[lane], up);
    load(&lanes.lower[lane], down);
  }

  template <typename T>
  void take(const T* row, const Part& grid, double* sums) noexcept {
    const Part zero{};
    Part x;
    load(row, x);
    const Part z = ((x - mean) * scale + grid) - grid;
    sum += z;
    store(sum, sums);
    up += z - up_allowance;
    raise(up, zero);
    raise(up_top, up);
    down -= z + down_allowance;
    raise(down, zero);
    raise(down_top, down);
  }

  void put(SideLanes& lanes, std::size_t lane) const noexcept {
    store(up, &lanes.upper[lane]);
    store(down, &lanes.lower[lane]);
    store(up_top, &lanes.upper_top[lane]);
    store(down_top, &lanes.lower_top[lane]);
  }
};

template <typename T>
void scan_rows(const T* rows, std::size_t stride, std::size_t count, std::size_t lanes,
               SideLanes& sides) noexcept {
  const Part grid = Part{} + kGridShift;
  for (std::size_t lane = 0; lane < lanes; lane += 2 * kWidth) {
    Side first;
    Side second;
    first.read(sides, lane);
    second.read(sides, lane + kWidth);
    for (std::size_t r = 0; r < count; ++r) {
      const T* const row = rows + r * stride + lane;
      first.take(row, grid, &sides.z_sums[r][lane]);
      second.take(row + kWidth, grid, &sides.z_sums[r][lane + kWidth]);
    }
    first.put(sides, lane);
    second.put(sides, lane + kWidth);
  }
}

inline Scan scan_of_this_file() noexcept {
  return {&scan_block<float>, &scan_block<double>, &scan_rows<float>, &scan_rows<double>};
}

}  // namespace
}  // namespace selfheal
