#include "selfheal/detect/condition_gate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kClip = 3.0;
constexpr double kNear = 0.75 * 0.75;
constexpr double kFarthest = 16.0;

}  // namespace

ConditionGate::ConditionGate(std::size_t numbers, std::vector<Rival> rivals, double height)
    : numbers_(numbers), rivals_(std::move(rivals)), height_(height) {
  if (numbers == 0) refuse("numbers", "at least 1", numbers);
  if (rivals_.size() > kMostRivals) refuse("rivals", "at most 16", rivals_.size());
  if (!(height > 0.0) || !std::isfinite(height)) refuse("height", "above 0 and finite", height);
  for (const Rival& one : rivals_) {
    for (const auto* part : {&one.direction, &one.mean, &one.spread}) {
      if (part->size() != numbers) refuse("rivals", "as many numbers of each", part->size());
      for (const double value : *part) {
        if (!std::isfinite(value)) refuse("rivals", "finite numbers", value);
      }
    }
    for (const double spread : one.spread) {
      if (!(spread > 0.0)) refuse("rivals", "spreads above 0", spread);
    }
    if (one.examples == 0) refuse("rivals", "at least one example", one.examples);
  }
}

double ConditionGate::log_ratio(std::size_t rival, std::span<const double> row) const noexcept {
  const Rival& one = rivals_[rival];
  double product = -one.centre;
  for (std::size_t i = 0; i < numbers_; ++i) product += row[i] * one.direction[i];
  return one.factor * std::clamp(product, -kClip, kClip);
}

bool ConditionGate::is_near(const Rival& rival, std::span<const double> rows,
                            std::size_t count) const noexcept {
  double total = 0.0;
  for (std::size_t i = 0; i < numbers_; ++i) {
    double mean = 0.0;
    for (std::size_t k = 0; k < count; ++k) mean += rows[k * numbers_ + i];
    const double away = (mean / static_cast<double>(count) - rival.mean[i]) / rival.spread[i];
    total += std::min(away * away, kFarthest);
  }
  // The means of rows and examples vary as well, and neighbours in a stream are alike.
  const double chance =
      2.0 / static_cast<double>(count) + 2.0 / static_cast<double>(rival.examples);
  return total / static_cast<double>(numbers_) <= kNear + chance;
}

ConditionGate::Passage ConditionGate::judge(std::span<const double> rows,
                                            std::span<const double* const> logs, std::size_t count,
                                            bool asks_if_open) const noexcept {
  Passage found;
  double most = 0.0;
  for (std::size_t k = 0; k < rivals_.size(); ++k) {
    double total = 0.0;
    std::size_t run = 0;  // inputs since it was zero
    for (std::size_t i = 0; i < count; ++i) {
      total += logs[k][i];
      ++run;
      if (total <= 0.0) {
        total = 0.0;
        run = 0;
      }
    }
    const bool is_reached = total >= height_;
    if (total <= 0.0 || (!is_reached && !asks_if_open)) continue;
    if (!is_near(rivals_[k], rows.last(run * numbers_), run)) continue;
    found.is_open = true;
    if (is_reached && total > most) {
      most = total;
      found.to = static_cast<int>(k);
    }
  }
  return found;
}

std::size_t ConditionGate::first_passage(std::span<const double> rows) const {
  const std::size_t count = rows.size() / numbers_;
  std::vector<double> logs(rivals_.size() * count);
  std::vector<const double*> stretch(rivals_.size());
  for (std::size_t at = 1; at <= count; ++at) {
    const std::size_t first = at - std::min(at, kStretch);
    for (std::size_t k = 0; k < rivals_.size(); ++k) {
      logs[k * count + at - 1] = log_ratio(k, rows.subspan((at - 1) * numbers_, numbers_));
      stretch[k] = &logs[k * count + first];
    }
    const auto latest = rows.subspan(first * numbers_, (at - first) * numbers_);
    if (judge(latest, stretch, at - first, false).to >= 0) return at;
  }
  return 0;
}

std::size_t ConditionGate::memory_bytes() const noexcept {
  std::size_t total = sizeof *this + rivals_.capacity() * sizeof(Rival);
  for (const Rival& one : rivals_) {
    total +=
        sizeof(double) * (one.direction.capacity() + one.mean.capacity() + one.spread.capacity());
  }
  return total;
}

}  // namespace selfheal
