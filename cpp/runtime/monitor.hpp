#pragma once

#include <cstdint>
#include <span>

#include "selfheal/measure/inference_monitor.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::runtime {

/// Hears what was measured on one inference after the other.
///
/// One thread at a time, which holds the inference lock.
class Monitor {
 public:
  enum class Verdict : std::uint8_t {
    kQuiet,
    kAlarm,
    kFailed,  ///< the monitor's own code has failed
  };

  Monitor() = default;
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  virtual ~Monitor() = default;

  /// result, row: of the inference; they may change as soon as the monitor lets another one run.
  virtual Verdict update(const PassResult& result, std::span<const double> row) noexcept = 0;
  /// Called before an inference is measured: a place to fetch what update() will need.
  virtual void prefetch() const noexcept {}
  /// Whether update() runs code that the core does not know: it may serve inferences of its own,
  /// or release what the path works on. The path then stops after every inference.
  virtual bool is_foreign() const noexcept { return false; }
  /// Whether what was measured looks as always again; of a monitor that cannot tell, always.
  virtual bool is_settled() const noexcept { return true; }
};

/// The core's own: a bank of charts, and what needs no chart.
class BankMonitor final : public Monitor {
 public:
  /// monitor must outlive this object.
  explicit BankMonitor(InferenceMonitor& monitor) noexcept : monitor_(monitor) {}

  Verdict update(const PassResult& result, std::span<const double> row) noexcept override {
    const InferenceAlarms alarms = monitor_.update(row, result.repeats_previous, result.nonfinite,
                                                   result.same_answer, result.label);
    return alarms.any() ? Verdict::kAlarm : Verdict::kQuiet;
  }
  void prefetch() const noexcept override { monitor_.prefetch(); }
  bool is_settled() const noexcept override { return monitor_.settled(); }

 private:
  InferenceMonitor& monitor_;
};

}  // namespace selfheal::runtime
