#include "selfheal/detect/signal_monitor.hpp"

#include "selfheal/detect/seen_period.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("SIGM");

struct Learned {
  MonitorBank bank;
  PeriodicLevel periodic;
  std::size_t unnamed_period;
};

// Whether only far samples are watched for.
bool has_no_cusum(const MonitorBank& bank) {
  for (std::size_t chart = 0; chart < BankCharts::kCharts; ++chart) {
    if (chart % (BankCharts::kAllowances + 1) == BankCharts::kAllowances) continue;
    if (!is_left_out(bank.thresholds(0), chart)) return false;
  }
  return true;
}

std::vector<std::vector<Reference>> one(const Reference& reference) { return {{reference}}; }

Learned learn(std::span<const double> samples, std::vector<std::size_t> periods, double arl0,
              bool latch) {
  std::vector<double> residuals(samples.begin(), samples.end());
  PeriodicLevel periodic;
  if (!periods.empty()) periodic = PeriodicLevel(samples, std::move(periods), residuals);
  Reference reference{std::span<const double>(residuals)};
  MonitorBank bank(one(reference), arl0, true, latch);
  // Where the level wanders and only far samples are left, these are those of the level: of one
  // that leaves the calibration for good, whitening shows the first sample alone.
  if (reference.preparation().wander() > 0.0 && has_no_cusum(bank)) {
    bank =
        MonitorBank(one(Reference{std::span<const double>(residuals), false}), arl0, true, latch);
  }
  for (double& x : residuals) x = std::isfinite(x) ? reference.score(x) : std::nan("");
  const std::size_t seen = seen_period(residuals);
  return {std::move(bank), std::move(periodic), seen};
}

}  // namespace

SignalMonitor::SignalMonitor(std::span<const double> samples, double arl0,
                             std::vector<std::size_t> periods, bool latch)
    : SignalMonitor([&] {
        Learned learned = learn(samples, std::move(periods), arl0, latch);
        return SignalMonitor(std::move(learned.bank), std::move(learned.periodic),
                             learned.unnamed_period);
      }()) {}

std::vector<std::byte> SignalMonitor::state() const {
  StateWriter writer(kTag, 1);
  writer.part(bank_.state());
  periodic_.write(writer);
  writer.u64(unnamed_period_);
  return std::move(writer).finish();
}

SignalMonitor SignalMonitor::from_state(std::span<const std::byte> blob) {
  const auto monitor = [](std::span<const std::byte> bytes, PeriodicLevel periodic,
                          std::size_t unnamed_period) {
    MonitorBank bank = MonitorBank::from_state(bytes);
    if (bank.signals() != 1) throw StateTypeError("state: expected a bank of one signal");
    return SignalMonitor(std::move(bank), std::move(periodic), unnamed_period);
  };
  try {
    StateReader reader(blob, kTag, 1);
    const std::span<const std::byte> bank = reader.part();
    PeriodicLevel periodic = PeriodicLevel::read(reader);
    const auto unnamed_period = static_cast<std::size_t>(reader.u64());
    reader.finish();
    return monitor(bank, std::move(periodic), unnamed_period);
  } catch (const StateTypeError&) {  // as written before periods could be named
    return monitor(blob, PeriodicLevel(), 0);
  }
}

}  // namespace selfheal
