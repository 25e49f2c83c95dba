#pragma once

// Included by one source file per instruction set. Every lane computes what one signal alone
// would, in the same order of operations: the results do not depend on the width of a vector.

#include <limits>

#include "bank_step.hpp"
#include "reference_score.hpp"

namespace selfheal::detail {
namespace {

// `value` where `mask` is set, else 0.
inline void keep(const MaskPart& mask, DoublePart& value) noexcept {
  value = reinterpret_cast<DoublePart>(mask & reinterpret_cast<MaskPart>(value));
}

inline void score_lanes(const double* row, std::size_t count, const Reference* references,
                        BankLanes& lanes) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const double x = row[i];
    // Infinities as well.
    const bool is_finite = x - x == 0.0;
    lanes.score[i] =
        is_finite ? score_of(references[i].table(), x) : std::numeric_limits<double>::quiet_NaN();
  }
}

struct StepMasks {
  MaskPart alarm{};
  MaskPart skipped{};
};

// kPartWidth lanes, from `lane` on.
inline void step_lanes(const BankPreparation& preparation, std::size_t lane, BankLanes& lanes,
                       double* inputs, StepMasks& masks) noexcept {
  const DoublePart zero{};
  const DoublePart one = zero + 1.0;
  const DoublePart gap = zero + std::numeric_limits<double>::quiet_NaN();
  DoublePart score{};
  DoublePart before{};
  DoublePart limit{};
  DoublePart phi{};
  DoublePart sqrt_whitened{};
  DoublePart offset{};
  DoublePart scale{};
  load_part(&lanes.score[lane], score);
  load_part(&lanes.before[lane], before);
  load_part(&preparation.limit[lane], limit);
  load_part(&preparation.phi[lane], phi);
  load_part(&preparation.sqrt_whitened[lane], sqrt_whitened);
  load_part(&preparation.offset[lane], offset);
  load_part(&preparation.scale[lane], scale);
  const MaskPart used = score == score;
  masks.skipped |= ~used;
  DoublePart clipped = score > limit ? limit : score;
  clipped = clipped < -limit ? -limit : clipped;
  const DoublePart after_gap = clipped * sqrt_whitened;
  const DoublePart after_one = clipped - phi * before;
  DoublePart y = ((before != before ? after_gap : after_one) - offset) * scale;
  keep(used, y);
  clipped = used ? clipped : gap;
  store_part(clipped, &lanes.before[lane]);
  store_part(y, &lanes.input[lane]);
  store_part(y, inputs + lane);
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    const DoublePart signed_y = side == 0 ? y : -y;
    for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
      // A skipped value moves a sum by 0, not by -k.
      DoublePart allowance = zero + BankCharts::kAllowance[k];
      keep(used, allowance);
      DoublePart sum{};
      DoublePart highest{};
      load_part(&lanes.sum[side][k][lane], sum);
      load_part(&lanes.limit[side][k][lane], highest);
      sum += signed_y - allowance;
      keep(sum > zero, sum);
      masks.alarm |= sum > highest;
      store_part(sum, &lanes.sum[side][k][lane]);
    }
    DoublePart count{};
    DoublePart cut{};
    DoublePart rise{};
    DoublePart highest{};
    load_part(&lanes.count[side][lane], count);
    load_part(&lanes.cut[side][lane], cut);
    load_part(&lanes.rise[side][lane], rise);
    load_part(&lanes.count_limit[side][lane], highest);
    DoublePart fallen = count - one;
    keep(count > zero, fallen);
    const DoublePart risen = count + rise;
    const MaskPart is_far = signed_y > cut;
    masks.alarm |= used & is_far & (risen > highest);
    const DoublePart moved = is_far ? risen : fallen;
    count = used ? moved : count;
    store_part(count, &lanes.count[side][lane]);
  }
}

inline bool any_of(const MaskPart& mask) noexcept {
  std::int64_t held = 0;
  for (std::size_t lane = 0; lane < kPartWidth; ++lane) held |= mask[lane];
  return held != 0;
}

inline BankStepResult bank_step(const double* row, std::size_t signals, const Reference* references,
                                const BankPreparation* preparations, BankLanes* lanes,
                                double* inputs) noexcept {
  constexpr std::size_t kLanes = BankLanes::kLanes;
  const std::size_t whole = signals / kLanes;
  for (std::size_t group = 0; group < whole; ++group) {
    score_lanes(row + group * kLanes, kLanes, references + group * kLanes, lanes[group]);
  }
  if (whole * kLanes < signals) {
    score_lanes(row + whole * kLanes, signals % kLanes, references + whole * kLanes, lanes[whole]);
  }
  StepMasks masks;
  for (std::size_t group = 0; group * kLanes < signals; ++group) {
    for (std::size_t lane = 0; lane < kLanes; lane += kPartWidth) {
      step_lanes(preparations[group], lane, lanes[group], inputs + group * kLanes, masks);
    }
  }
  return {any_of(masks.alarm), any_of(masks.skipped)};
}

}  // namespace
}  // namespace selfheal::detail
