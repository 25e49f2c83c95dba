#include "selfheal/monitor_bank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "selfheal/argument_error.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("BANK");
constexpr double kGap = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kAllowances = BankCharts::kAllowances;
constexpr std::size_t kSides = BankCharts::kSides;

// The least sensitive of two: what keeps the promise under either regime.
void widen(BankThresholds& a, const BankThresholds& b) noexcept {
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t k = 0; k < kAllowances; ++k) {
      a.cusum[side][k] = std::max(a.cusum[side][k], b.cusum[side][k]);
      a.certain[side][k] = std::max(a.certain[side][k], b.certain[side][k]);
    }
    TailChart& tail = a.tail[side];
    tail.cut = std::max(tail.cut, b.tail[side].cut);
    tail.rise = std::min(tail.rise, b.tail[side].rise);
    tail.limit = std::max(tail.limit, b.tail[side].limit);
  }
}

}  // namespace

MonitorBank::MonitorBank(std::vector<std::vector<Reference>> references, double arl0)
    : references_(std::move(references)), arl0_(arl0) {
  if (references_.empty() || references_.front().empty()) {
    refuse("references", "at least 1 regime of at least 1 signal", std::string_view("none"));
  }
  signals_ = references_.front().size();
  for (const auto& regime : references_) {
    if (regime.size() != signals_) {
      refuse("references", "regimes of " + std::to_string(signals_) + " signals", regime.size());
    }
  }
  const double wanted = arl0 * static_cast<double>(signals_);
  if (!(arl0 >= 10.0 && wanted <= 1e12)) {
    refuse("arl0", "a number from 10 to 1e12 over the number of signals", arl0);
  }
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    BankThresholds solved = solve_bank_thresholds(references_[0][signal], wanted);
    for (std::size_t regime = 1; regime < references_.size(); ++regime) {
      widen(solved, solve_bank_thresholds(references_[regime][signal], wanted));
    }
    thresholds_.push_back(solved);
  }
  allocate();
  reset();
}

void MonitorBank::allocate() {
  const std::size_t charts = kSides * kAllowances * signals_;
  limits_.resize(charts);
  sums_.resize(charts);
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t k = 0; k < kAllowances; ++k) {
      for (std::size_t signal = 0; signal < signals_; ++signal) {
        limits_[(side * kAllowances + k) * signals_ + signal] = thresholds_[signal].cusum[side][k];
      }
    }
  }
  counts_.resize(kSides * signals_);
  inputs_.resize(signals_);
  scores_.resize(signals_);
  before_.resize(signals_);
  used_.resize(signals_);
  alarmed_.resize(signals_);
  skipped_.resize(signals_);
  trackers_.resize(signals_);
}

void MonitorBank::set_regime(std::size_t regime) noexcept {
  regime_ = regime;
  std::fill(before_.begin(), before_.end(), kGap);
}

void MonitorBank::restart(std::size_t signal) noexcept {
  for (std::size_t chart = 0; chart < kSides * kAllowances; ++chart) {
    sums_[chart * signals_ + signal] = 0.0;
  }
  counts_[signal] = 0;
  counts_[signals_ + signal] = 0;
  alarmed_[signal] = 0;
  trackers_[signal].restart(count_);
}

void MonitorBank::reset() noexcept {
  count_ = 0;
  std::fill(before_.begin(), before_.end(), kGap);
  std::fill(scores_.begin(), scores_.end(), kGap);
  std::fill(inputs_.begin(), inputs_.end(), 0.0);
  std::fill(used_.begin(), used_.end(), std::uint8_t{0});
  std::fill(skipped_.begin(), skipped_.end(), std::uint64_t{0});
  for (std::size_t signal = 0; signal < signals_; ++signal) restart(signal);
}

template <typename T>
bool MonitorBank::take(std::span<const T> row) noexcept {
  const std::vector<Reference>& references = references_[regime_];
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    if (alarmed_[signal] != 0) restart(signal);
    const auto x = static_cast<double>(row[signal]);
    const bool usable = std::isfinite(x);
    used_[signal] = usable ? 1 : 0;
    if (!usable) [[unlikely]] {
      ++skipped_[signal];
      scores_[signal] = kGap;
      before_[signal] = kGap;
      inputs_[signal] = 0.0;
      continue;
    }
    const Reference& reference = references[signal];
    scores_[signal] = reference.score(x);
    const double clipped = reference.clip(scores_[signal]);
    inputs_[signal] = reference.prepared(clipped, before_[signal]);
    before_[signal] = clipped;
  }
  // One chart after the other over all signals: the inner loops are vectors. A skipped value moves
  // a sum by 0, not by -k.
  double worst = 0.0;
  for (std::size_t side = 0; side < kSides; ++side) {
    const double sign = side == 0 ? 1.0 : -1.0;
    for (std::size_t k = 0; k < kAllowances; ++k) {
      double* const sum = sums(side, k);
      const double* const limit = &limits_[(side * kAllowances + k) * signals_];
      const double allowance = BankCharts::kAllowance[k];
      for (std::size_t signal = 0; signal < signals_; ++signal) {
        const double used = used_[signal] != 0 ? 1.0 : 0.0;
        const double next = sum[signal] + (sign * inputs_[signal] - allowance * used);
        sum[signal] = next > 0.0 ? next : 0.0;
        const double over = sum[signal] - limit[signal];
        worst = over > worst ? over : worst;
      }
    }
  }
  bool any = worst > 0.0;
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    if (used_[signal] == 0) continue;
    trackers_[signal].push(inputs_[signal], count_);
    for (std::size_t side = 0; side < kSides; ++side) {
      const TailChart& tail = thresholds_[signal].tail[side];
      std::uint32_t& held = counts_[side * signals_ + signal];
      const double y = side == 0 ? inputs_[signal] : -inputs_[signal];
      if (y > tail.cut) {
        held += tail.rise;
        any = any || held > tail.limit;
      } else {
        held -= held > 0 ? 1U : 0U;
      }
    }
  }
  ++count_;
  if (any) [[unlikely]] {
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      if (used_[signal] != 0 && statistic(signal) > 1.0) alarmed_[signal] = 1;
    }
  }
  return any;
}

bool MonitorBank::update(std::span<const double> row) noexcept { return take(row); }
bool MonitorBank::update(std::span<const float> row) noexcept { return take(row); }

std::size_t MonitorBank::leading_chart(std::size_t signal) const noexcept {
  std::size_t leading = 0;
  double largest = -1.0;
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t k = 0; k <= kAllowances; ++k) {
      const double at =
          k < kAllowances
              ? sums(side, k)[signal] / limits_[(side * kAllowances + k) * signals_ + signal]
              : static_cast<double>(counts_[side * signals_ + signal]) /
                    static_cast<double>(thresholds_[signal].tail[side].limit);
      if (at > largest) {
        largest = at;
        leading = side * (kAllowances + 1) + k;
      }
    }
  }
  return leading;
}

double MonitorBank::statistic(std::size_t signal) const noexcept {
  const std::size_t chart = leading_chart(signal);
  const std::size_t side = chart / (kAllowances + 1);
  const std::size_t k = chart % (kAllowances + 1);
  if (k < kAllowances) {
    return sums(side, k)[signal] / limits_[(side * kAllowances + k) * signals_ + signal];
  }
  return static_cast<double>(counts_[side * signals_ + signal]) /
         static_cast<double>(thresholds_[signal].tail[side].limit);
}

int MonitorBank::direction(std::size_t signal) const noexcept {
  if (!(statistic(signal) > 0.0)) return 0;
  return leading_chart(signal) < kAllowances + 1 ? 1 : -1;
}

Onset MonitorBank::change(std::size_t signal) const noexcept {
  const int side = direction(signal);
  if (side == 0) return {};
  Onset onset = trackers_[signal].since_standard(side);
  onset.shift /= references_[regime_][signal].gain();
  return onset;
}

std::size_t MonitorBank::memory_bytes() const noexcept {
  const std::size_t per_signal =
      sizeof(BankThresholds) + sizeof(OnsetTracker) + 2 * kSides * kAllowances * sizeof(double) +
      kSides * sizeof(std::uint32_t) + 3 * sizeof(double) + 2 + sizeof(std::uint64_t);
  return sizeof *this + signals_ * (per_signal + references_.size() * sizeof(Reference));
}

std::vector<std::byte> MonitorBank::state() const {
  StateWriter writer(kTag, 1);
  writer.f64(arl0_);
  writer.u64(references_.size());
  writer.u64(signals_);
  writer.u64(regime_);
  writer.u64(count_);
  for (const auto& regime : references_) {
    for (const Reference& reference : regime) {
      const std::vector<std::byte> blob = reference.state();
      writer.u64(blob.size());
      for (const std::byte byte : blob) writer.u8(std::to_integer<std::uint8_t>(byte));
    }
  }
  // Thresholds are stored, not solved again: another machine's libm may differ in the last digit.
  for (const BankThresholds& solved : thresholds_) {
    for (std::size_t side = 0; side < kSides; ++side) {
      for (std::size_t k = 0; k < kAllowances; ++k) {
        writer.f64(solved.cusum[side][k]);
        writer.f64(solved.certain[side][k]);
      }
      writer.f64(solved.tail[side].cut);
      writer.u32(solved.tail[side].rise);
      writer.u32(solved.tail[side].limit);
    }
  }
  for (const double sum : sums_) writer.f64(sum);
  for (const std::uint32_t held : counts_) writer.u32(held);
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    writer.f64(inputs_[signal]);
    writer.f64(scores_[signal]);
    writer.f64(before_[signal]);
    writer.u8(used_[signal]);
    writer.u8(alarmed_[signal]);
    writer.u64(skipped_[signal]);
    trackers_[signal].write(writer);
  }
  return std::move(writer).finish();
}

MonitorBank::MonitorBank(StateReader& reader) {
  arl0_ = reader.f64();
  const std::uint64_t regimes = reader.u64();
  const std::uint64_t signals = reader.u64();
  StateReader::require(arl0_ >= 10.0 && regimes >= 1 && signals >= 1 &&
                           regimes <= reader.remaining() && signals <= reader.remaining(),
                       "parameters out of range");
  signals_ = static_cast<std::size_t>(signals);
  regime_ = static_cast<std::size_t>(reader.u64());
  StateReader::require(regime_ < regimes, "no such regime");
  count_ = reader.u64();
  for (std::uint64_t regime = 0; regime < regimes; ++regime) {
    auto& held = references_.emplace_back();
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      const std::uint64_t size = reader.u64();
      StateReader::require(size <= reader.remaining(), "a reference that ends too early");
      std::vector<std::byte> blob(static_cast<std::size_t>(size));
      for (std::byte& byte : blob) byte = std::byte{reader.u8()};
      held.push_back(Reference::from_state(blob));
    }
  }
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    BankThresholds& solved = thresholds_.emplace_back();
    for (std::size_t side = 0; side < kSides; ++side) {
      for (std::size_t k = 0; k < kAllowances; ++k) {
        solved.cusum[side][k] = reader.f64();
        solved.certain[side][k] = reader.f64();
        StateReader::require(solved.cusum[side][k] > 0.0, "a threshold out of range");
      }
      solved.tail[side].cut = reader.f64();
      solved.tail[side].rise = reader.u32();
      solved.tail[side].limit = reader.u32();
      StateReader::require(solved.tail[side].limit > 0, "a threshold out of range");
    }
  }
  allocate();
  for (double& sum : sums_) {
    sum = reader.f64();
    StateReader::require(sum >= 0.0, "a sum out of range");
  }
  for (std::uint32_t& held : counts_) held = reader.u32();
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    inputs_[signal] = reader.f64();
    scores_[signal] = reader.f64();
    before_[signal] = reader.f64();
    used_[signal] = reader.u8();
    alarmed_[signal] = reader.u8();
    skipped_[signal] = reader.u64();
    trackers_[signal].read(reader);
  }
}

MonitorBank MonitorBank::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
  MonitorBank bank(reader);
  reader.finish();
  return bank;
}

}  // namespace selfheal
