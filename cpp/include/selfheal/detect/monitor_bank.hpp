#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/bank_lanes.hpp"
#include "selfheal/detect/bank_thresholds.hpp"
#include "selfheal/detect/latch.hpp"
#include "selfheal/detect/onset_tracker.hpp"
#include "selfheal/detect/reference.hpp"

namespace selfheal {

/// Many signals under one false-alarm promise.
///
/// Each signal's value goes through its Reference to a prepared score y, and y through eight
/// one-sided charts (BankCharts): CUSUMs with k = 0.15, 0.4 and 1.2 up and down, and on either side
/// a count of far samples. A signal alarms when any of its charts does; at the next update all its
/// charts start at zero again.
///
/// The promise: the mean number of updates between false alarms of the whole bank is at least
/// arl0, for 90 % of calibrations, whatever the correlation between signals (each has its share of
/// the rate: Bonferroni). It holds for signals whose normal operation looks like their reference
/// and whose memory is mainly that of a first-order autoregression; bank_thresholds.hpp says how.
///
/// Regimes: several references a signal (day and night), of which one is in use at a time. Charts
/// go on across a switch; thresholds are the largest over the regimes.
///
/// NaN and infinities are skipped and counted per signal. One vector instruction takes the scores
/// of four signals, or four charts of one (AVX2 where the CPU has it; the results are the same to
/// the bit). What finds the onset takes in sixteen samples of a signal at a time, each signal at
/// another update. update: about 12 ns a signal. Bytes: memory_bytes(), about 3.7 KiB a signal and
/// 10 KiB a reference. Nothing allocates after construction. One object, one thread.
class MonitorBank {
 public:
  static constexpr std::size_t kCharts = BankCharts::kCharts;

  /// references[regime][signal]; all regimes have the same number of signals, at least one.
  /// arl0: updates between false alarms, 10 to 1e12 over the number of signals.
  /// keep_far: as in bank_thresholds.hpp. latch: a lasting shift of a signal is told once (Latch).
  MonitorBank(std::vector<std::vector<Reference>> references, double arl0, bool keep_far = false,
              bool latch = false);

  std::size_t signals() const noexcept { return signals_; }
  std::size_t regimes() const noexcept { return references_.size(); }
  double arl0() const noexcept { return arl0_; }
  std::size_t regime() const noexcept { return regime_; }
  /// The regime of the updates to come; < regimes().
  void set_regime(std::size_t regime) noexcept;

  /// Takes one value of every signal; true if any signal alarms.
  bool update(std::span<const double> row) noexcept;
  bool update(std::span<const float> row) noexcept;

  /// Asks for what the next update will read: it is cold after the inference of a model that is
  /// larger than the cache, and what is measured meanwhile hides the wait.
  void prefetch() const noexcept;

  /// Whether a signal alarmed in the last update.
  bool drift_detected(std::size_t signal) const noexcept { return told_[signal] != 0; }
  /// Whether a lasting shift of the signal was told, and goes on; false without `latch`.
  bool is_latched(std::size_t signal) const noexcept {
    return latches_[signal].holds(count_ - skipped_[signal], sum_since_start(signal));
  }
  /// Whether a chart alarmed in the last update, held back or not.
  bool is_any_alarmed() const noexcept { return any_alarmed_; }
  /// Starts all charts at zero; counts, what was accepted, and latches of shifts that go on, stay.
  void restart() noexcept;
  /// Takes the signal's level since the onset for normal, in this regime: charts hear what differs
  /// from there, and start at zero. It is known to 1 / sqrt(samples since the onset) standard
  /// deviations, and the promise holds no better than that.
  void accept(std::size_t signal) noexcept;
  /// Takes a level and a spread for normal, in this regime: charts hear what differs from there,
  /// in units of that spread, and start at zero. level: mean of normal scores, clipped to
  /// +-Reference::limit(); spread: their standard deviation, positive. Both finite. 0 and 1 are the
  /// reference's own.
  void set_level(std::size_t signal, double level, double spread) noexcept;
  /// What was accepted, in normal scores.
  double accepted(std::size_t signal) const noexcept;
  double accepted_spread(std::size_t signal) const noexcept {
    return spreads_[regime_ * signals_ + signal];
  }
  /// The largest statistic over threshold of a signal's charts; >= 1 is an alarm.
  double statistic(std::size_t signal) const noexcept;
  /// Index of the chart with that statistic: side * 4 + k, k = 3 the count of far samples.
  std::size_t leading_chart(std::size_t signal) const noexcept;
  /// The side of that chart: +1 up, -1 down; 0 while all sums are zero.
  int direction(std::size_t signal) const noexcept;
  /// When the shift in direction() began, and its size in normal scores.
  Onset change(std::size_t signal) const noexcept;
  /// The score of the last value; NaN if there was none.
  /// The scores of all signals.
  void scores(std::span<double> to) const noexcept;
  double score(std::size_t signal) const noexcept { return of(signal).score[lane(signal)]; }

  const BankThresholds& thresholds(std::size_t signal) const noexcept {
    return thresholds_[signal];
  }
  const Reference& reference(std::size_t signal) const noexcept {
    return references_[regime_][signal];
  }

  /// Updates, and values skipped of one signal, since construction or reset().
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t skipped(std::size_t signal) const noexcept { return skipped_[signal]; }
  void reset() noexcept;
  std::size_t memory_bytes() const noexcept;

  using History = selfheal::History;
  /// What is restored continues bit for bit. Without history, samples that were taken before are
  /// known in steps of OnsetTracker::kStride when a change is dated; later ones as ever.
  std::vector<std::byte> state(History history = History::kKept) const;
  static MonitorBank from_state(std::span<const std::byte> blob);

 private:
  explicit MonitorBank(StateReader& reader);
  void allocate();
  bool take(const double* row) noexcept;
  void restart(std::size_t signal) noexcept;
  /// Whether the latch lets the signal's alarm through.
  bool tell(std::size_t signal) noexcept;
  void prepare(std::size_t regime, std::size_t signal) noexcept;
  /// How many standard deviations of the chart's input a lasting shift of one score makes.
  double gain(std::size_t signal) const noexcept {
    return references_[regime_][signal].preparation().gain() / accepted_spread(signal);
  }
  /// Lets the tracker take in the rows before `end` that it has not seen.
  void settle(OnsetTracker& tracker, std::size_t signal, std::uint64_t end) const noexcept;
  OnsetTracker settled(std::size_t signal) const noexcept;
  void skip_row() noexcept;
  /// Where the last update's row begins in rows_; count_ > 0.
  std::size_t latest_row() const noexcept {
    return static_cast<std::size_t>((count_ - 1) % kRows) * lanes_.size() * kLanes;
  }
  /// Of the charts' input, since they started last.
  double sum_since_start(std::size_t signal) const noexcept;
  bool is_used(std::size_t signal) const noexcept { return !std::isnan(score(signal)); }

  static std::size_t lane(std::size_t signal) noexcept { return signal % kLanes; }
  detail::BankLanes& of(std::size_t signal) noexcept { return lanes_[signal / kLanes]; }
  const detail::BankLanes& of(std::size_t signal) const noexcept { return lanes_[signal / kLanes]; }

  static constexpr std::size_t kLanes = detail::BankLanes::kLanes;
  static constexpr std::size_t kRows = OnsetTracker::kStride;

  std::vector<std::vector<Reference>> references_;
  double arl0_ = 0.0;
  std::size_t signals_ = 0;
  std::size_t regime_ = 0;
  std::vector<BankThresholds> thresholds_;
  std::vector<detail::BankLanes> lanes_;
  std::vector<detail::SignalCharts> charts_;           // by signal
  std::vector<detail::BankPreparation> preparations_;  // [regime][four signals]
  std::vector<double> rows_;                           // y of the latest kRows updates
  std::vector<double> converted_;                      // a row of floats
  std::vector<std::uint64_t> settled_;  // by signal: the first row that its tracker has not seen
  std::vector<std::uint8_t> alarmed_;
  std::vector<std::uint8_t> told_;  // those alarms that no latch held back
  std::vector<Latch> latches_;
  std::vector<double> accepted_;  // [regime][signal], of the charts' input
  std::vector<double> spreads_;   // alike, of what was accepted; 1: the reference's
  std::vector<std::uint64_t> skipped_;
  std::vector<OnsetTracker> trackers_;
  bool any_alarmed_ = false;
  std::uint64_t count_ = 0;
};

}  // namespace selfheal
