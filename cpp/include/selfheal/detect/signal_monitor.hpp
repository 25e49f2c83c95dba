#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "selfheal/detect/monitor_bank.hpp"
#include "selfheal/detect/periodic_level.hpp"

namespace selfheal {

/// A bank of one signal, with the face of a detector; what follows from named periods is taken out
/// of the signal first.
class SignalMonitor {
 public:
  SignalMonitor(const Reference& reference, double arl0, bool latch = false)
      : bank_(one(reference), arl0, false, latch) {}
  /// samples: of normal operation, in order; the stream goes on right after the last one.
  SignalMonitor(std::span<const double> samples, double arl0, std::vector<std::size_t> periods,
                bool latch = false);

  bool update(double x) noexcept {
    const double left = periodic_.is_empty() ? x : periodic_.take(x);
    return bank_.update(std::span<const double>(&left, 1));
  }
  template <typename T, typename OnAlarm>
  void update_many(std::span<const T> samples, OnAlarm&& on_alarm) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (update(static_cast<double>(samples[i]))) on_alarm(i);
    }
  }
  bool drift_detected() const noexcept { return bank_.drift_detected(0); }
  /// Of MonitorBank.
  bool is_latched() const noexcept { return bank_.is_latched(0); }
  void accept() noexcept { bank_.accept(0); }
  bool since_start() const noexcept { return bank_.change(0).since_start; }
  double statistic() const noexcept { return bank_.statistic(0); }
  int direction() const noexcept { return bank_.direction(0); }
  double magnitude() const noexcept { return std::fabs(bank_.change(0).shift); }
  std::int64_t onset() const noexcept { return bank_.change(0).estimate; }
  std::int64_t onset_earliest() const noexcept { return bank_.change(0).earliest; }
  std::uint64_t count() const noexcept { return bank_.count(); }
  std::uint64_t skipped() const noexcept { return bank_.skipped(0); }
  /// Charts start as new; time goes on: the place in a period stays.
  void reset() noexcept { bank_.reset(); }
  std::size_t memory_bytes() const noexcept {
    return bank_.memory_bytes() + periodic_.memory_bytes();
  }
  const MonitorBank& bank() const noexcept { return bank_; }
  const PeriodicLevel& periodic() const noexcept { return periodic_; }
  /// One that the calibration shows beside those that were named; 0 if none.
  std::size_t unnamed_period() const noexcept { return unnamed_period_; }

  std::vector<std::byte> state() const;
  static SignalMonitor from_state(std::span<const std::byte> blob);

 private:
  SignalMonitor(MonitorBank bank, PeriodicLevel periodic, std::size_t unnamed_period)
      : bank_(std::move(bank)), periodic_(std::move(periodic)), unnamed_period_(unnamed_period) {}
  static std::vector<std::vector<Reference>> one(const Reference& reference) {
    std::vector<std::vector<Reference>> references(1);
    references.front().push_back(reference);
    return references;
  }

  MonitorBank bank_;
  PeriodicLevel periodic_;
  std::size_t unnamed_period_ = 0;
};

}  // namespace selfheal
