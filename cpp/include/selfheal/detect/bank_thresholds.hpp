#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "selfheal/detect/reference.hpp"

namespace selfheal {

/// A CUSUM that counts: +rise for a score beyond `cut`, -1 for any other, not below 0; alarm above
/// `limit` (Reynolds and Stoumbos 1999).
struct TailChart {
  double cut = 0.0;
  std::uint32_t rise = 0;
  std::uint32_t limit = 0;
};

/// Thresholds of one signal's charts.
struct BankThresholds {
  std::array<std::array<double, BankCharts::kAllowances>, BankCharts::kSides> cusum{};
  std::array<TailChart, BankCharts::kSides> tail{};
  /// What they would be if calibration had known the distribution for certain.
  std::array<std::array<double, BankCharts::kAllowances>, BankCharts::kSides> certain{};
};

/// Whether a chart (side * 4 + k, k = 3 the count of far samples) is left out: it can never alarm.
bool is_left_out(const BankThresholds& thresholds, std::size_t chart) noexcept;

/// Solves for thresholds under which the charts of one signal together raise a false alarm every
/// `arl0` samples at most often, in at least 90 % of calibrations like this one.
///
/// Each of the eight charts gets an eighth of the promised rate (Bonferroni). A CUSUM's run length
/// grows like exp(theta h), theta the root of E exp(theta v) = 1 over its steps v (Lundberg); it is
/// computed from the scores' own distribution: a Markov chain on a lattice for a small h, continued
/// with Siegmund's formula for that theta; on the chain alone where the steps upwards are so far
/// apart that no formula fits (a rare event, few levels). The calibration's n samples leave theta
/// uncertain, with standard deviation sqrt(Var exp(theta v) + Var of the product below) / (m
/// sqrt(n)), m = E v exp(theta v). Steps that whitening left dependent come in bunches: the mean
/// products of (exp(theta v) - 1) of two, neighbours and further apart (bunching.hpp), count as
/// growth. With s the standard deviation that this means for the log run length, the thresholds
/// take theta 0.5 + 0.33 s standard deviations lower. Where the level wanders, all steps are taken
/// as that much higher; where the spread does, all scores as that much farther out. A chart that
/// calibration cannot support (theta would fall below a quarter, or a hundredth by memory) is left
/// out: its threshold is infinite.
///
/// The count of far samples needs no formula for their distribution: they are a two-state chain, of
/// which how often a row of them begins and how often it goes on are bounded by what was seen
/// (Clopper and Pearson 1934); what follows a far sample that was never seen, as though one had
/// been, alone. The run length of independent far samples that grow the chart as fast is solved
/// exactly. It is left out (cut infinite) where these would be about half of all.
///
/// Chosen by simulation (docs/detectors.md): 0.5 + 0.33 s, the quarter and the hundredth.
///
/// arl0: 10 to 1e12. About 5 ms. Allocates: set-up only.
///
/// keep_far: where the level wanders, or the calibration holds fewer than 50 lengths of its memory,
/// so that nothing keeps the promise, the count of far samples stays, as cautious as it can be: a
/// large change is found all the same.
BankThresholds solve_bank_thresholds(const Reference& reference, double arl0,
                                     bool keep_far = false);

/// How many calibration samples would do for a chart on either side, were they like these; 0 if
/// none would. About 100 ms.
std::uint64_t samples_needed(const Reference& reference, double arl0);

}  // namespace selfheal
