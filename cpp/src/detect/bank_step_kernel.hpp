#pragma once

// Included by one source file per instruction set. First the scores, one lane a signal; then signal
// by signal the charts, one lane a chart. Every lane computes what it would alone, in the same
// order of operations: the results do not depend on the width of a vector.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "detect/bank_step.hpp"
#include "detect/reference_score.hpp"

namespace selfheal::detail {
namespace {

// NaN where x is not finite.
inline double score_or_gap(const Reference& reference, double x) noexcept {
  // Infinities as well.
  const bool is_finite = x - x == 0.0;
  return is_finite ? score_of(reference.table(), x) : std::numeric_limits<double>::quiet_NaN();
}

// Scores of `count` signals, 0 in the lanes behind them. They stay in registers: a vector that is
// loaded right after its parts were stored one by one waits for the stores.
inline void score_part(const double* row, std::size_t count, const Reference* references,
                       DoublePart& score) noexcept {
  const auto of = [&](std::size_t i) noexcept {
    return i < count ? score_or_gap(references[i], row[i]) : 0.0;
  };
#ifdef __AVX2__
  score = DoublePart{of(0), of(1), of(2), of(3)};
#else
  score = DoublePart{of(0), of(1)};
#endif
}

inline bool any_of(const MaskPart& mask) noexcept {
#ifdef __AVX2__
  return _mm256_movemask_pd(reinterpret_cast<__m256d>(mask)) != 0;
#else
  std::int64_t held = 0;
  for (std::size_t lane = 0; lane < kPartWidth; ++lane) held |= mask[lane];
  return held != 0;
#endif
}

// Takes the last lane from `other`.
inline void take_last(const DoublePart& other, DoublePart& part) noexcept {
#ifdef __AVX2__
  part = reinterpret_cast<DoublePart>(_mm256_blend_pd(part, other, 8));
#else
  part[kPartWidth - 1] = other[kPartWidth - 1];
#endif
}

// No lane is NaN.
inline void not_below_zero(DoublePart& part) noexcept {
#ifdef __AVX2__
  part = reinterpret_cast<DoublePart>(_mm256_max_pd(part, __m256d{}));
#else
  part = part > DoublePart{} ? part : DoublePart{};
#endif
}

// What every sample takes off a chart.
constexpr std::array<double, SignalCharts::kCharts> kFall{
    BankCharts::kAllowance[0], BankCharts::kAllowance[1], BankCharts::kAllowance[2], 1.0};

// Prepares kPartWidth scores, from `lane` on; returns whether any was skipped.
inline bool prepare_part(const DoublePart& score, const BankPreparation& preparation,
                         std::size_t lane, BankLanes& lanes, double* inputs) noexcept {
  DoublePart before{};
  DoublePart limit{};
  DoublePart phi{};
  DoublePart sqrt_whitened{};
  DoublePart offset{};
  DoublePart scale{};
  load_part(&lanes.before[lane], before);
  load_part(&preparation.limit[lane], limit);
  load_part(&preparation.phi[lane], phi);
  load_part(&preparation.sqrt_whitened[lane], sqrt_whitened);
  load_part(&preparation.offset[lane], offset);
  load_part(&preparation.scale[lane], scale);
  const MaskPart used = score == score;
  DoublePart clipped = score > limit ? limit : score;
  clipped = clipped < -limit ? -limit : clipped;
  const DoublePart after_gap = clipped * sqrt_whitened;
  const DoublePart after_one = clipped - phi * before;
  DoublePart y = ((before != before ? after_gap : after_one) - offset) * scale;
  const DoublePart zero{};
  y = used ? y : zero;
  store_part(score, &lanes.score[lane]);
  store_part(clipped, &lanes.before[lane]);
  store_part(y, inputs + lane);
  return any_of(~used);
}

// All charts of one signal, those on one side beside each other.
inline void step_charts(double y, SignalCharts& charts, MaskPart& alarm) noexcept {
  constexpr std::size_t kCharts = SignalCharts::kCharts;
  static_assert(kCharts % kPartWidth == 0);
  const DoublePart zero{};
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    const DoublePart input = (side == 0 ? y : -y) - zero;
    const MaskPart is_far = input > charts.cut[side] - zero;
    const DoublePart raised = charts.raised[side] - zero;
    const auto counted = reinterpret_cast<DoublePart>(is_far & reinterpret_cast<MaskPart>(raised));
    for (std::size_t chart = 0; chart < kCharts; chart += kPartWidth) {
      DoublePart step = input;
      if (chart + kPartWidth == kCharts) take_last(counted, step);
      DoublePart fall{};
      for (std::size_t i = 0; i < kPartWidth; ++i) fall[i] = kFall[chart + i];
      DoublePart level{};
      DoublePart limit{};
      load_part(&charts.level[side][chart], level);
      load_part(&charts.limit[side][chart], limit);
      level += step - fall;
      not_below_zero(level);
      alarm |= level > limit;
      store_part(level, &charts.level[side][chart]);
    }
  }
}

inline BankStepResult bank_step(const double* row, std::size_t signals, const Reference* references,
                                const BankPreparation* preparations, BankLanes* lanes,
                                SignalCharts* charts, double* inputs) noexcept {
  constexpr std::size_t kLanes = BankLanes::kLanes;
  bool any_skipped = false;
  for (std::size_t first = 0; first < signals; first += kPartWidth) {
    const std::size_t group = first / kLanes;
    DoublePart score{};
    score_part(row + first, std::min(kPartWidth, signals - first), references + first, score);
    any_skipped |= prepare_part(score, preparations[group], first % kLanes, lanes[group],
                                inputs + group * kLanes);
  }
  MaskPart alarm{};
  for (std::size_t signal = 0; signal < signals; ++signal) {
    const bool is_used = !any_skipped || !std::isnan(lanes[signal / kLanes].score[signal % kLanes]);
    if (is_used) [[likely]]
      step_charts(inputs[signal], charts[signal], alarm);
  }
  return {any_of(alarm), any_skipped};
}

}  // namespace
}  // namespace selfheal::detail
