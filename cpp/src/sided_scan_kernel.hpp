#pragma once

// Included by one source file per instruction set; GCC's and Clang's vector types.

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "sided_scan.hpp"

namespace selfheal {
namespace {

// Wider types than the instruction set has would be taken apart, comparisons at great cost.
#ifdef __AVX2__
constexpr std::size_t kWidth = 4;
#else
constexpr std::size_t kWidth = 2;
#endif
using Part = double __attribute__((vector_size(kWidth * sizeof(double))));

// Vectors go by reference: passed by value, they would depend on the instruction set's ABI.
template <typename T>
inline void load_column(const T* samples, Part& out) noexcept {
  for (std::size_t lane = 0; lane < kWidth; ++lane) {
    out[lane] = static_cast<double>(samples[lane * OnsetTracker::kStride]);
  }
}

// The larger; `other` where `value` is NaN. Compilers do not always see the one instruction.
inline void raise(Part& value, const Part& other) noexcept {
#ifdef __AVX2__
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

  template <typename T>
  void take(const T* samples, const Constants& c) noexcept {
    const Part zero{};
    Part x{};
    load_column(samples, x);
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

  void put(ScanResult& result, std::size_t lane) const noexcept {
    store(sum, &result.sum[lane]);
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
  const Constants c{zero + p.mean, zero + p.reciprocal_std, zero + kGridShift,
                    zero + (kGridShift + p.allowance), zero + (kGridShift - p.allowance)};
  // Two at a time: their chains of additions run side by side, and all fits into the registers.
  for (std::size_t lane = 0; lane < kScanLanes; lane += 2 * kWidth) {
    const T* const low = samples + lane * kStride;
    const T* const high = low + kWidth * kStride;
    Running first;
    Running second;
    for (std::size_t i = 0; i < kStride; ++i) {
      first.take(low + i, c);
      second.take(high + i, c);
    }
    first.put(result, lane);
    second.put(result, lane + kWidth);
  }
}

}  // namespace
}  // namespace selfheal
