#pragma once

// The recurrence of sided_chart.hpp over a block of samples, as a scan over the (max, +) semiring:
// sixteen runs of kStride samples side by side, each as if its sums began at zero, and joined
// after.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "selfheal/detect/onset_tracker.hpp"

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
  std::array<double, kScanLanes> sum;     // of z - allowance
  std::array<double, kScanLanes> z_sum;   // of z
  std::array<double, kScanLanes> up_end;  // sums that began at 0
  std::array<double, kScanLanes> up_top;  // their largest value
  std::array<double, kScanLanes> down_end;
  std::array<double, kScanLanes> down_top;
  bool is_finite;  // whether all samples were
};

using ScanFloats = void (*)(const float*, const ScanParameters&, ScanResult&) noexcept;
using ScanDoubles = void (*)(const double*, const ScanParameters&, ScanResult&) noexcept;

// Charts side by side: the recurrence itself, one chart a lane, over a few rows of samples.
constexpr std::size_t kSideLanes = 16;
constexpr std::size_t kSideRows = OnsetTracker::kFineReach;

struct SideLanes {
  using PerLane = std::array<double, kSideLanes>;
  PerLane mean;
  PerLane reciprocal_std;
  PerLane up_allowance;  // on the grid
  PerLane down_allowance;
  PerLane upper;  // before the rows, then after them
  PerLane lower;
  PerLane upper_top;  // largest on the way
  PerLane lower_top;
  std::array<PerLane, kSideRows> z_sums;  // of z, up to each row; not finite if a sample was not
};

// Row r has its samples for lanes 0 .. lanes - 1 at rows + r * stride; lanes is rounded up to what
// the vectors hold, at most to kSideLanes, and so much is read.
using ScanFloatRows = void (*)(const float* rows, std::size_t stride, std::size_t count,
                               std::size_t lanes, SideLanes&) noexcept;
using ScanDoubleRows = void (*)(const double* rows, std::size_t stride, std::size_t count,
                                std::size_t lanes, SideLanes&) noexcept;

struct Scan {
  ScanFloats floats;
  ScanDoubles doubles;
  ScanFloatRows float_rows;
  ScanDoubleRows double_rows;
};

Scan portable_scan() noexcept;
Scan avx2_scan() noexcept;
Scan avx512_scan() noexcept;

// Those that this processor runs, fastest first.
std::span<const Scan> available_scans() noexcept;
// The first of them.
const Scan& chosen_scan() noexcept;

}  // namespace selfheal
