#include "selfheal/detect/monitor_bank.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "detect/bank_step.hpp"
#include "selfheal/base/argument_error.hpp"

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

// The statistic of one chart over its threshold.
double chart_statistic(const detail::SignalCharts& charts, std::size_t chart) noexcept {
  const std::size_t side = chart / detail::SignalCharts::kCharts;
  const std::size_t k = chart % detail::SignalCharts::kCharts;
  return charts.level[side][k] / charts.limit[side][k];
}

// Not a function-local static: the guard would be paid for at every update.
const detail::BankStep chosen_step = detail::available_bank_steps().front();

}  // namespace

[[gnu::cold]] MonitorBank::MonitorBank(std::vector<std::vector<Reference>> references, double arl0,
                                       bool keep_far, bool latch)
    : references_(std::move(references)), arl0_(arl0) {
  if (references_.empty() || references_.front().empty()) {
    refuse("references", "at least 1 regime of at least 1 signal", std::string_view("none"));
  }
  signals_ = references_.front().size();
  for (auto& regime : references_) {
    if (regime.size() != signals_) {
      refuse("references", "regimes of " + std::to_string(signals_) + " signals", regime.size());
    }
    regime.shrink_to_fit();  // the caller's vector has grown: a reference takes 10 KiB
  }
  const double wanted = arl0 * static_cast<double>(signals_);
  if (!(arl0 >= 10.0 && wanted <= 1e12)) {
    refuse("arl0", "a number from 10 to 1e12 over the number of signals", arl0);
  }
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    BankThresholds solved = solve_bank_thresholds(references_[0][signal], wanted, keep_far);
    for (std::size_t regime = 1; regime < references_.size(); ++regime) {
      widen(solved, solve_bank_thresholds(references_[regime][signal], wanted, keep_far));
    }
    thresholds_.push_back(solved);
  }
  latches_.assign(signals_, Latch(latch));
  accepted_.assign(signals_ * references_.size(), 0.0);
  spreads_.assign(signals_ * references_.size(), 1.0);
  allocate();
  reset();
}

[[gnu::cold]] void MonitorBank::allocate() {
  const std::size_t groups = (signals_ + kLanes - 1) / kLanes;
  lanes_.assign(groups, detail::BankLanes{});
  charts_.assign(signals_, detail::SignalCharts{});
  preparations_.assign(groups * references_.size(), detail::BankPreparation{});
  rows_.resize(kRows * groups * kLanes);
  converted_.resize(signals_);
  settled_.resize(signals_);
  alarmed_.resize(signals_);
  told_.resize(signals_);
  skipped_.resize(signals_);
  trackers_.resize(signals_);
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    detail::SignalCharts& charts = charts_[signal];
    const std::size_t at = lane(signal);
    for (std::size_t side = 0; side < kSides; ++side) {
      const TailChart& tail = thresholds_[signal].tail[side];
      std::copy_n(thresholds_[signal].cusum[side].begin(), kAllowances, charts.limit[side]);
      charts.limit[side][kAllowances] = tail.limit;
      charts.cut[side] = tail.cut;
      charts.raised[side] = tail.rise + 1.0;
    }
    for (std::size_t regime = 0; regime < references_.size(); ++regime) {
      const Preparation& learned = references_[regime][signal].preparation();
      detail::BankPreparation& preparation = preparations_[regime * groups + signal / kLanes];
      preparation.limit[at] = learned.limit();
      preparation.phi[at] = learned.phi();
      preparation.sqrt_whitened[at] = learned.sqrt_whitened();
      prepare(regime, signal);
    }
  }
}

void MonitorBank::prepare(std::size_t regime, std::size_t signal) noexcept {
  const Preparation& learned = references_[regime][signal].preparation();
  detail::BankPreparation& preparation = preparations_[regime * lanes_.size() + signal / kLanes];
  const std::size_t at = regime * signals_ + signal;
  preparation.offset[lane(signal)] = learned.offset() + accepted_[at] / learned.scale();
  preparation.scale[lane(signal)] = learned.scale() / spreads_[at];
}

void MonitorBank::accept(std::size_t signal) noexcept {
  double& accepted = accepted_[regime_ * signals_ + signal];
  accepted += change(signal).shift * references_[regime_][signal].preparation().gain();
  prepare(regime_, signal);
  latches_[signal].clear();
  restart(signal);
}

void MonitorBank::set_level(std::size_t signal, double level, double spread) noexcept {
  const std::size_t at = regime_ * signals_ + signal;
  accepted_[at] = level * references_[regime_][signal].preparation().gain();
  spreads_[at] = spread;
  prepare(regime_, signal);
  latches_[signal].clear();
  restart(signal);
}

double MonitorBank::accepted(std::size_t signal) const noexcept {
  return accepted_[regime_ * signals_ + signal] / references_[regime_][signal].preparation().gain();
}

void MonitorBank::restart() noexcept {
  any_alarmed_ = false;
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    of(signal).before[lane(signal)] = kGap;
    latches_[signal].settle(count_ - skipped_[signal], sum_since_start(signal));
    restart(signal);
  }
}

void MonitorBank::set_regime(std::size_t regime) noexcept {
  regime_ = regime;
  for (std::size_t signal = 0; signal < signals_; ++signal) of(signal).before[lane(signal)] = kGap;
}

void MonitorBank::restart(std::size_t signal) noexcept {
  for (auto& side : charts_[signal].level) std::fill(std::begin(side), std::end(side), 0.0);
  alarmed_[signal] = 0;
  told_[signal] = 0;
  trackers_[signal].restart(count_);
  settled_[signal] = count_;
}

void MonitorBank::reset() noexcept {
  count_ = 0;
  any_alarmed_ = false;
  std::fill(skipped_.begin(), skipped_.end(), std::uint64_t{0});
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    of(signal).before[lane(signal)] = kGap;
    of(signal).score[lane(signal)] = kGap;
    latches_[signal].clear();
    restart(signal);
  }
}

void MonitorBank::settle(OnsetTracker& tracker, std::size_t signal,
                         std::uint64_t end) const noexcept {
  const std::size_t width = lanes_.size() * kLanes;
  const std::uint64_t begin = settled_[signal];
  if (begin + kRows == end) {
    tracker.push_ring(&rows_[signal], width, begin);
    return;
  }
  for (std::uint64_t row = begin; row < end; ++row) {
    tracker.push(rows_[static_cast<std::size_t>(row % kRows) * width + signal], row);
  }
}

OnsetTracker MonitorBank::settled(std::size_t signal) const noexcept {
  OnsetTracker tracker = trackers_[signal];
  settle(tracker, signal, count_);
  return tracker;
}

// Samples that are skipped leave a gap in the indices.
void MonitorBank::skip_row() noexcept {
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    if (is_used(signal)) continue;
    ++skipped_[signal];
    settle(trackers_[signal], signal, count_);
    settled_[signal] = count_ + 1;
  }
}

void MonitorBank::prefetch() const noexcept {
  constexpr std::size_t kLine = 64;
  const auto ask = [](const void* data, std::size_t nbytes) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 4
#endif
    for (std::size_t i = 0; i < nbytes; i += kLine) {
      __builtin_prefetch(static_cast<const char*>(data) + i);
    }
  };
  const std::size_t groups = lanes_.size();
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    const ReferenceTable& table = references_[regime_][signal].table();
    ask(table.coarse, sizeof table.coarse);
    ask(&table.values[table.knots - 1], 1);
    ask(table.values, 1);
  }
  ask(lanes_.data(), groups * sizeof(detail::BankLanes));
  ask(charts_.data(), signals_ * sizeof(detail::SignalCharts));
  ask(&preparations_[regime_ * groups], groups * sizeof(detail::BankPreparation));
}

void MonitorBank::scores(std::span<double> to) const noexcept {
  for (std::size_t signal = 0; signal < to.size(); signal += kLanes) {
    const std::size_t count = std::min(kLanes, to.size() - signal);
    std::copy_n(of(signal).score, count, to.begin() + static_cast<std::ptrdiff_t>(signal));
  }
}

bool MonitorBank::take(const double* row) noexcept {
  if (any_alarmed_) [[unlikely]] {
    any_alarmed_ = false;
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      if (alarmed_[signal] != 0) restart(signal);
    }
  }
  const std::size_t groups = lanes_.size();
  const auto place = static_cast<std::size_t>(count_ % kRows);
  const detail::BankStepResult result =
      chosen_step(row, signals_, references_[regime_].data(), &preparations_[regime_ * groups],
                  lanes_.data(), charts_.data(), &rows_[place * groups * kLanes]);
  if (result.any_skipped) [[unlikely]]
    skip_row();
  ++count_;
  // Each signal's turn comes before the row that it has not seen longest is overwritten.
  for (std::size_t signal = place; signal < signals_; signal += kRows) {
    settle(trackers_[signal], signal, count_);
    settled_[signal] = std::max(settled_[signal], count_);
  }
  bool is_any_told = false;
  if (result.any_alarm) [[unlikely]] {
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      if (!is_used(signal) || !(statistic(signal) > 1.0)) continue;
      alarmed_[signal] = 1;
      any_alarmed_ = true;
      const bool is_told = !latches_[signal].is_on() || tell(signal);
      told_[signal] = is_told ? 1 : 0;
      is_any_told |= is_told;
    }
  }
  return is_any_told;
}

bool MonitorBank::update(std::span<const double> row) noexcept { return take(row.data()); }

bool MonitorBank::update(std::span<const float> row) noexcept {
  std::copy(row.begin(), row.end(), converted_.begin());
  return take(converted_.data());
}

bool MonitorBank::tell(std::size_t signal) noexcept {
  const Onset onset = change(signal);
  std::uint64_t took = onset.ago(count_);
  // Few far samples leave the mean where it was, and say nothing of when it changed. So many of
  // them as raise an alarm do not lie farther apart than this.
  const std::size_t chart = leading_chart(signal);
  if (chart % detail::SignalCharts::kCharts == kAllowances) {
    const TailChart& tail = thresholds_[signal].tail[chart / detail::SignalCharts::kCharts];
    const std::uint64_t rise = std::max<std::uint32_t>(1, tail.rise);
    took = std::min(took, (rise + 1) * (tail.limit / rise + 1));
  }
  const std::uint64_t used = count_ - skipped_[signal];
  const std::uint64_t since_start = trackers_[signal].count() + (count_ - settled_[signal]);
  const std::uint64_t before = used - since_start + onset.before;
  return latches_[signal].tell(direction(signal), used, sum_since_start(signal), took,
                               onset.shift * gain(signal), Latch::Before{before, onset.sum_before});
}

double MonitorBank::sum_since_start(std::size_t signal) const noexcept {
  double sum = trackers_[signal].sum();
  for (std::uint64_t row = settled_[signal]; row < count_; ++row) {
    sum += rows_[static_cast<std::size_t>(row % kRows) * lanes_.size() * kLanes + signal];
  }
  return sum;
}

std::size_t MonitorBank::leading_chart(std::size_t signal) const noexcept {
  std::size_t leading = 0;
  double largest = -1.0;
  for (std::size_t chart = 0; chart < kCharts; ++chart) {
    const double at = chart_statistic(charts_[signal], chart);
    if (at > largest) {
      largest = at;
      leading = chart;
    }
  }
  return leading;
}

double MonitorBank::statistic(std::size_t signal) const noexcept {
  return chart_statistic(charts_[signal], leading_chart(signal));
}

int MonitorBank::direction(std::size_t signal) const noexcept {
  if (!(statistic(signal) > 0.0)) return 0;
  return leading_chart(signal) < kAllowances + 1 ? 1 : -1;
}

Onset MonitorBank::change(std::size_t signal) const noexcept {
  const int side = direction(signal);
  if (side == 0) return {};
  const Reference& reference = references_[regime_][signal];
  const double known = reference.preparation().is_exact() ? std::numeric_limits<double>::infinity()
                                                          : static_cast<double>(reference.count());
  Onset onset = settled(signal).since_standard(side, known);
  onset.shift /= gain(signal);
  return onset;
}

std::size_t MonitorBank::memory_bytes() const noexcept {
  const auto bytes = [](const auto&... vectors) {
    return (... + (vectors.capacity() * sizeof(*vectors.data())));
  };
  std::size_t references = bytes(references_);
  for (const auto& held : references_) references += bytes(held);
  return sizeof *this + references +
         bytes(thresholds_, lanes_, charts_, preparations_, rows_, converted_, settled_, alarmed_,
               told_, latches_, accepted_, spreads_, skipped_, trackers_);
}

[[gnu::cold]] std::vector<std::byte> MonitorBank::state(History history) const {
  StateWriter writer(kTag, 3);
  writer.f64(arl0_);
  writer.u64(references_.size());
  writer.u64(signals_);
  writer.u64(regime_);
  writer.u64(count_);
  for (const auto& regime : references_) {
    for (const Reference& reference : regime) writer.part(reference.state());
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
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t k = 0; k < kAllowances; ++k) {
      for (std::size_t i = 0; i < signals_; ++i) writer.f64(charts_[i].level[side][k]);
    }
  }
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t i = 0; i < signals_; ++i) {
      writer.u32(static_cast<std::uint32_t>(charts_[i].level[side][kAllowances]));
    }
  }
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    writer.f64(count_ == 0 ? 0.0 : rows_[latest_row() + signal]);
    writer.f64(score(signal));
    writer.f64(of(signal).before[lane(signal)]);
    writer.u8(is_used(signal) ? 1 : 0);
    writer.u8(alarmed_[signal]);
    writer.u64(skipped_[signal]);
    writer.u8(told_[signal]);
    latches_[signal].write(writer);
    OnsetTracker tracker = settled(signal);
    if (history == History::kLeftOut) tracker.forget_fine();
    tracker.write(writer);
  }
  for (const double accepted : accepted_) writer.f64(accepted);
  for (const double spread : spreads_) writer.f64(spread);
  return std::move(writer).finish();
}

[[gnu::cold]] MonitorBank::MonitorBank(StateReader& reader) {
  arl0_ = reader.f64();
  const std::uint64_t regimes = reader.u64();
  const std::uint64_t signals = reader.u64();
  StateReader::require(arl0_ >= 10.0 && regimes >= 1 && signals >= 1 &&
                           regimes <= reader.remaining() && signals <= reader.remaining(),
                       "parameters out of range");
  signals_ = static_cast<std::size_t>(signals);
  const std::uint64_t regime_in_use = reader.u64();
  StateReader::require(regime_in_use < regimes, "no such regime");
  regime_ = static_cast<std::size_t>(regime_in_use);
  count_ = reader.u64();
  for (std::uint64_t regime = 0; regime < regimes; ++regime) {
    auto& held = references_.emplace_back();
    held.reserve(signals_);
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      held.push_back(Reference::from_state(reader.part()));
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
  latches_.assign(signals_, Latch());
  accepted_.assign(signals_ * references_.size(), 0.0);
  spreads_.assign(signals_ * references_.size(), 1.0);
  allocate();
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t k = 0; k < kAllowances; ++k) {
      for (std::size_t i = 0; i < signals_; ++i) {
        double& sum = charts_[i].level[side][k];
        sum = reader.f64();
        StateReader::require(sum >= 0.0 && std::isfinite(sum), "a sum out of range");
      }
    }
  }
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t i = 0; i < signals_; ++i) {
      charts_[i].level[side][kAllowances] = reader.u32();
    }
  }
  for (std::size_t signal = 0; signal < signals_; ++signal) {
    const double input = reader.f64();
    if (count_ > 0) rows_[latest_row() + signal] = input;
    of(signal).score[lane(signal)] = reader.f64();
    of(signal).before[lane(signal)] = reader.f64();
    reader.u8();  // whether there was a score, which the score says itself
    alarmed_[signal] = reader.u8();
    any_alarmed_ = any_alarmed_ || alarmed_[signal] != 0;
    skipped_[signal] = reader.u64();
    StateReader::require(skipped_[signal] <= count_, "more values skipped than seen");
    told_[signal] = alarmed_[signal];
    if (reader.version() >= 2) {
      told_[signal] = reader.u8();
      latches_[signal].read(reader, count_ - skipped_[signal]);
    }
    trackers_[signal].read(reader);
    settled_[signal] = count_;
  }
  if (reader.version() < 2) return;
  for (std::size_t regime = 0; regime < references_.size(); ++regime) {
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      double& accepted = accepted_[regime * signals_ + signal];
      accepted = reader.f64();
      StateReader::require(std::isfinite(accepted), "an accepted level out of range");
      prepare(regime, signal);
    }
  }
  if (reader.version() < 3) return;
  for (std::size_t regime = 0; regime < references_.size(); ++regime) {
    for (std::size_t signal = 0; signal < signals_; ++signal) {
      double& spread = spreads_[regime * signals_ + signal];
      spread = reader.f64();
      StateReader::require(std::isfinite(spread) && spread > 0.0,
                           "an accepted spread out of range");
      prepare(regime, signal);
    }
  }
}

[[gnu::cold]] MonitorBank MonitorBank::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 3);
  MonitorBank bank(reader);
  reader.finish();
  return bank;
}

}  // namespace selfheal
