#include "selfheal/measure/inference_monitor.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace selfheal {

InferenceMonitor::InferenceMonitor(std::optional<MonitorBank> bank, std::vector<Flat> flat,
                                   std::uint64_t max_repeats)
    : bank_(std::move(bank)),
      flat_(std::move(flat)),
      max_repeats_(max_repeats),
      window_(kWindow, std::max<std::size_t>(1, bank_ ? bank_->signals() : 1)),
      scores_(window_.width()) {
  for (const Flat& rule : flat_) {
    if (rule.index >= signals()) refuse("flat", "indices below the number of signals", rule.index);
  }
}

InferenceAlarms InferenceMonitor::update(std::span<const double> row, bool repeats_previous,
                                         std::uint64_t nonfinite) noexcept {
  ++count_;
  alarms_ = {};
  bool is_flat = false;
  if (bank_) {
    alarms_.bank = bank_->update(row);
    bank_->scores(scores_);
    window_.push(std::span<const double>(scores_));
    for (const Flat& rule : flat_) is_flat |= row[rule.index] < rule.least;
  }
  last_nonfinite_ = nonfinite;
  nonfinite_ += nonfinite;
  alarms_.nonfinite = nonfinite != 0;
  flats_ = is_flat ? flats_ + 1 : 0;
  alarms_.flat = is_flat && flats_ % kInARow == 0;
  repeats_ = repeats_previous ? repeats_ + 1 : 0;
  alarms_.repeats = repeats_previous && max_repeats_ != 0 && repeats_ % max_repeats_ == 0;
  since_alarm_ = alarms_.any() ? 0 : since_alarm_ + 1;
  return alarms_;
}

bool InferenceMonitor::settled() const noexcept {
  if (repeats_ != 0 || since_alarm_ < kSettled) return false;
  if (!bank_) return true;
  if (window_.size() < kSettled) return false;
  const std::size_t width = window_.width();
  const auto spans = window_.spans();
  const std::size_t newer = std::min(kSettled, spans.newer.size() / width);
  const auto late = spans.newer.last(newer * width);
  const auto early = spans.older.last((kSettled - newer) * width);
  for (const auto rows : {early, late}) {
    for (std::size_t i = 0; i < rows.size(); i += width) {
      const auto row = rows.subspan(i, width);
      if (std::none_of(row.begin(), row.end(), [](double x) { return std::isfinite(x); })) {
        return false;
      }
    }
  }
  for (std::size_t signal = 0; signal < width; ++signal) {
    // A signal may be without a value at times, as the distance to a class that was never seen.
    double sum = 0.0;
    double known = 0.0;
    for (const auto rows : {early, late}) {
      for (std::size_t i = signal; i < rows.size(); i += width) {
        if (!std::isfinite(rows[i])) continue;
        sum += rows[i];
        known += 1.0;
      }
    }
    if (known > 0.0 && !(std::fabs(sum / known) < kSettledMean)) return false;
  }
  return true;
}

void InferenceMonitor::reset() noexcept {
  if (bank_) bank_->reset();
  window_.clear();
  alarms_ = {};
  repeats_ = flats_ = since_alarm_ = 0;
}

std::size_t InferenceMonitor::memory_bytes() const noexcept {
  return sizeof *this + (bank_ ? bank_->memory_bytes() - sizeof *bank_ : 0) +
         window_.memory_bytes() - sizeof window_ + scores_.capacity() * sizeof(double) +
         flat_.capacity() * sizeof(Flat);
}

}  // namespace selfheal
