#pragma once

// The recurrence of sided_chart.hpp over a block of samples, as a scan over the (max, +) semiring:
// sixteen runs of kStride samples side by side, each as if its sums began at zero, and joined
// after.

#include <array>
#include <cstddef>
#include <cstdint>

#include "selfheal/onset_tracker.hpp"

namespace selfheal {

constexpr std::size_t kScanLanes = 16;
constexpr std::size_t kScanBlock = kScanLanes * OnsetTracker::kStride;

// Adding and taking away 1.5 * 2^32 leaves a double rounded to a multiple of 2^-20.
constexpr double kGridShift = 6442450944.0;

struct ScanParameters {
  double mean;
  double reciprocal_std;
  double allowance;  // on the grid
};

// One value per lane.
struct ScanResult {
  std::array<double, kScanLanes> sum;     // of z - allowance; not finite if a sample was not
  std::array<double, kScanLanes> up_end;  // sums that began at 0
  std::array<double, kScanLanes> up_top;  // their largest value
  std::array<double, kScanLanes> down_end;
  std::array<double, kScanLanes> down_top;
};

using ScanFloats = void (*)(const float*, const ScanParameters&, ScanResult&) noexcept;
using ScanDoubles = void (*)(const double*, const ScanParameters&, ScanResult&) noexcept;

struct Scan {
  ScanFloats floats;
  ScanDoubles doubles;
};

Scan portable_scan() noexcept;
Scan avx2_scan() noexcept;

// The fastest that this processor runs.
const Scan& chosen_scan() noexcept;

}  // namespace selfheal
