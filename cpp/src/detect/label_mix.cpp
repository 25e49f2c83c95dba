#include "selfheal/detect/label_mix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

// Odds that the charts of an event look for, as many times those of calibration.
constexpr std::array<double, LabelMix::kCharts> kTimes{3.0, 27.0, 3.0};
// Events that are more frequent have no rising chart, or no falling one either: what is not the
// event has it.
constexpr double kMostRising = 1.0 / 3.0;
constexpr double kMostFalling = 2.0 / 3.0;
// The worst chain of an event is so far off that fewer calibrations have a worse one. Chosen by
// simulation: benchmarks/detectors.py --parts label-mix.
constexpr double kMostDoubt = 0.02;
constexpr double kDoubt = 0.15;  // of all events together, each of whose charts have a share
constexpr double kSettledSd = 4.0;

// The normal distribution beyond z.
double beyond(double z) noexcept { return 0.5 * std::erfc(z / std::numbers::sqrt2); }

double doubt_sd(std::size_t events) noexcept {
  const double share = std::min(kMostDoubt, kDoubt / static_cast<double>(events));
  double low = 0.0;
  double high = 8.0;
  for (int i = 0; i < 50; ++i) {
    const double z = 0.5 * (low + high);
    (beyond(z) > share ? low : high) = z;
  }
  return high;
}

// Information of a share `now` against `before`, nats a sample.
double divergence(double now, double before) noexcept {
  double sum = 0.0;
  if (now > 0.0) sum += now * std::log(now / before);
  if (now < 1.0) sum += (1.0 - now) * std::log((1.0 - now) / (1.0 - before));
  return sum;
}

}  // namespace

LabelMix::LabelMix(LabelReference reference, double arl0, bool latch)
    : reference_(std::move(reference)), arl0_(arl0) {
  if (!(arl0 >= 10.0 && arl0 <= 1e15)) refuse("arl0", "a number of updates from 10 to 1e15", arl0);
  index();
  latches_.assign(slots_.size(), Latch(latch));
  solve();
  reset();
}

[[gnu::cold]] void LabelMix::index() {
  const auto& events = reference_.events_;
  slots_.assign(events.size(), Slot{});
  history_.assign(kHistory, static_cast<std::uint8_t>(kNone));
  complements_.clear();
  std::size_t counted = 0;
  while (counted < events.size() && !events[counted].is_complement) ++counted;
  // The rest comes after the classes, and has no place among them.
  const std::int64_t last = events[counted - 1].label;
  const bool is_rest = last == LabelReference::kRest || counted < reference_.classes_ ||
                       (counted > 1 && last < events[counted - 2].label);
  rest_ = is_rest ? counted - 1 : kNone;
  event_of_.assign(reference_.classes_, static_cast<std::uint8_t>(rest_));
  for (std::size_t i = 0; i < events.size(); ++i) {
    slots_[i].base = i;
    if (i >= counted) {
      for (std::size_t k = 0; k < counted; ++k) {
        if (events[k].label == events[i].label) slots_[i].base = k;
      }
      complements_.push_back(i);
    } else if (events[i].label >= 0) {
      event_of_[static_cast<std::size_t>(events[i].label)] = static_cast<std::uint8_t>(i);
    }
  }
}

[[gnu::cold]] void LabelMix::solve() noexcept {
  const auto& events = reference_.events_;
  const auto is_used = [&](std::size_t event, std::size_t chart) {
    const double share = reference_.share(events[event]);
    return events.size() > 1 && share <= (chart == kDown ? kMostFalling : kMostRising);
  };
  double charts = 0.0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    for (std::size_t k = 0; k < kCharts; ++k) charts += is_used(i, k) ? 1.0 : 0.0;
  }
  const double log_run = std::log(arl0_) + std::log(std::max(1.0, charts));
  for (std::size_t i = 0; i < events.size(); ++i) {
    for (std::size_t k = 0; k < kCharts; ++k) {
      slots_[i].chart[k] = is_used(i, k) ? solve_chart(events[i], k, log_run) : CountChart{};
    }
  }
}

// Both probabilities one standard deviation off tell which of them matters how much; then they are
// off by the doubt together.
CountChart LabelMix::solve_chart(const LabelReference::Event& event, std::size_t chart,
                                 double log_run) const noexcept {
  const bool is_down = chart == kDown;
  const auto chain = [&](double begin_sd, double stay_sd) {
    return is_down ? reference_.least(event, begin_sd, stay_sd)
                   : reference_.most(event, begin_sd, stay_sd);
  };
  const auto solve_for = [&](const EventChain& at) {
    return is_down ? solve_falling(at, kTimes[chart], log_run)
                   : solve_rising(at, kTimes[chart], log_run);
  };
  const auto run = [&](const EventChain& at, const CountChart& solved) {
    return is_down ? log_falling_run(at, solved) : log_rising_run(at, solved);
  };
  const double doubt = doubt_sd(slots_.size());
  const CountChart middle = solve_for(chain(0.5, 0.5));
  if (middle.limit == 0) return {};
  const double usual = run(chain(0.5, 0.5), middle);
  const double by_begin = usual - run(chain(1.5, 0.5), middle);
  const double by_stay = usual - run(chain(0.5, 1.5), middle);
  const double both = std::hypot(by_begin, by_stay);
  if (!(both > 0.0)) return solve_for(chain(doubt, doubt));
  const auto part = [&](double by) { return doubt * std::clamp(by / both, 0.0, 1.0); };
  return solve_for(chain(part(by_begin), part(by_stay)));
}

void LabelMix::begin(Slot& slot) noexcept {
  slot.at = slot.since = used_;
  slot.seen = 0;
  slot.level = {};
}

void LabelMix::restart() noexcept {
  for (std::size_t i = 0; i < slots_.size(); ++i) latches_[i].settle(used_, sum(i));
  begin_all();
}

void LabelMix::begin_all() noexcept {
  for (Slot& slot : slots_) begin(slot);
  alarmed_ = 0;
  told_ = kNone;
  last_ = kNone;
  began_ = count_;
  deadline_ = 0;
}

void LabelMix::reset() noexcept {
  count_ = used_ = changed_ = rising_ = 0;
  for (Latch& latch : latches_) latch.clear();
  begin_all();
}

inline void LabelMix::hit(std::size_t event, bool goes_on) noexcept {
  Slot& slot = slots_[event];
  // More than that is more than any level.
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 30;
  const auto gap = static_cast<std::uint32_t>(std::min(used_ - slot.at - 1, kLongest));
  slot.at = used_;
  ++slot.seen;
  bool is_above = false;
  for (std::size_t k = 0; k < kDown; ++k) {
    const CountChart& chart = slot.chart[k];
    const std::uint32_t before = slot.level[k];
    const std::uint32_t level =
        (before > gap ? before - gap : 0) + (goes_on ? chart.stay : chart.begin);
    slot.level[k] = level;
    is_above |= level > chart.limit;
  }
  const CountChart& down = slot.chart[kDown];
  // Up to its limit: beyond, it would have alarmed while the event stayed away.
  const std::uint32_t risen = std::min(slot.level[kDown] + gap, down.limit);
  const std::uint32_t off = goes_on ? down.stay : down.begin;
  slot.level[kDown] = risen > off ? risen - off : 0;
  if (is_above) [[unlikely]]
    alarmed_ |= std::uint64_t{1} << event;
}

void LabelMix::check_absent() noexcept {
  deadline_ = std::numeric_limits<std::uint64_t>::max();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const std::uint32_t limit = slot.chart[kDown].limit;
    if (limit == 0) continue;
    std::uint64_t due = slot.at + (limit - slot.level[kDown]) + 1;
    if (due <= used_) {
      alarmed_ |= std::uint64_t{1} << i;
      due = used_ + 1 + limit;  // it starts again
    }
    deadline_ = std::min(deadline_, due);
  }
}

bool LabelMix::update(std::int64_t label) noexcept {
  if (alarmed_ != 0) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if ((alarmed_ >> i & 1U) != 0) begin(slots_[i]);
    }
    alarmed_ = 0;
  }
  told_ = kNone;
  std::size_t event = label < 0 ? kNone : rest_;  // of a class that no calibration had
  if (label >= 0 && static_cast<std::uint64_t>(label) < event_of_.size()) {
    event = event_of_[static_cast<std::size_t>(label)];
  }
  history_[static_cast<std::size_t>(count_ % kHistory)] = static_cast<std::uint8_t>(event);
  ++count_;
  if (event == kNone) return false;
  ++used_;
  hit(event, event == last_);
  for (const std::size_t others : complements_) {
    const std::size_t base = slots_[others].base;
    if (event != base) hit(others, last_ != base && last_ != kNone);
  }
  last_ = event;
  if (used_ >= deadline_) [[unlikely]]
    check_absent();
  return alarmed_ != 0 && tell();
}

double LabelMix::level(const Slot& slot, std::size_t chart) const noexcept {
  const std::uint64_t gap = used_ - slot.at;
  const std::uint32_t at = slot.level[chart];
  if (chart == kDown) return static_cast<double>(at) + static_cast<double>(gap);
  return at > gap ? static_cast<double>(at - gap) : 0.0;
}

double LabelMix::statistic(const Slot& slot, std::size_t chart) const noexcept {
  const std::uint32_t limit = slot.chart[chart].limit;
  return limit == 0 ? 0.0 : level(slot, chart) / (static_cast<double>(limit) + 1.0);
}

int LabelMix::real_side(std::size_t event, std::size_t chart) const noexcept {
  return (chart == kDown) == is_complement(event) ? 1 : -1;
}

// In standard deviations of one label, were labels independent with the variance that theirs has.
double LabelMix::standard(std::size_t event, double share) const noexcept {
  const LabelReference::Event& one = reference_.events_[event];
  const auto n = static_cast<double>(reference_.samples_);
  const double p = (static_cast<double>(one.count) + 0.5) / (n + 1.0);
  const double inflation = std::max(1.0, reference_.likely(one).inflation()) * reference_.bunching_;
  return (share - p) / std::sqrt(p * (1.0 - p) * inflation);
}

double LabelMix::sum(std::size_t event) const noexcept {
  const Slot& slot = slots_[event];
  return sum(event, used_ - slot.since, static_cast<double>(slot.seen));
}

double LabelMix::sum(std::size_t event, std::uint64_t samples, double seen) const noexcept {
  const auto n = static_cast<double>(samples);
  return n > 0.0 ? n * standard(event, seen / n) : 0.0;
}

bool LabelMix::tell() noexcept {
  double most = 0.0;
  std::uint64_t rising = 0;  // that go on
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if ((rising_ >> i & 1U) != 0 && latches_[i].holds(used_, sum(i))) {
      rising |= std::uint64_t{1} << i;
    }
  }
  // What has become more frequent comes first: that others are rarer follows from it.
  for (const int side : {1, -1}) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if ((alarmed_ >> i & 1U) == 0) continue;
      std::size_t leading = 0;
      for (std::size_t k = 1; k < kCharts; ++k) {
        if (statistic(slots_[i], k) > statistic(slots_[i], leading)) leading = k;
      }
      if (real_side(i, leading) != side) continue;
      const std::uint64_t bit = std::uint64_t{1} << i;
      const bool follows = latches_[i].is_on() && side < 0 && (rising & ~bit) != 0;
      if (follows && !latches_[i].holds(used_, sum(i))) continue;
      const Change change = change_of(i, leading);
      const bool is_news = latches_[i].tell(
          leading == kDown ? -1 : 1, used_, sum(i), change.onset.ago(count_),
          standard(i, is_complement(i) ? 1.0 - change.share : change.share),
          Latch::Before{slots_[i].since + change.onset.before, change.onset.sum_before});
      if (side > 0) rising |= bit;
      if (side < 0) rising &= ~bit;
      if (!is_news || follows) continue;
      if (statistic(slots_[i], leading) > most) {
        most = statistic(slots_[i], leading);
        told_ = i;
        told_chart_ = leading;
        changed_ =
            change.onset.estimate < 0 ? began_ : static_cast<std::uint64_t>(change.onset.estimate);
      }
    }
    if (told_ != kNone) break;
  }
  rising_ = rising;
  return told_ != kNone;
}

LabelMix::Change LabelMix::change() const noexcept {
  if (told_ != kNone) return change_of(told_, told_chart_);
  std::size_t event = 0;
  std::size_t chart = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    for (std::size_t k = 0; k < kCharts; ++k) {
      if (statistic(slots_[i], k) > statistic(slots_[event], chart)) {
        event = i;
        chart = k;
      }
    }
  }
  return change_of(event, chart);
}

bool LabelMix::is_event(std::size_t event, std::uint8_t held) const noexcept {
  return is_complement(event) ? held != slots_[event].base : held == event;
}

[[gnu::cold]] LabelMix::Change LabelMix::change_of(std::size_t event,
                                                   std::size_t chart) const noexcept {
  const LabelReference::Event& one = reference_.events_[event];
  const auto n0 = static_cast<double>(reference_.samples_);
  const double p = (static_cast<double>(one.count) + 0.5) / (n0 + 1.0);
  const double inflation = std::max(1.0, reference_.likely(one).inflation()) * reference_.bunching_;
  const bool is_down = chart == kDown;

  // The start that makes the labels since then most likely; it lies where a run begins, or ends.
  const Slot& slot = slots_[event];
  const std::uint64_t oldest = std::max(began_, count_ > kHistory ? count_ - kHistory : 0);
  const std::uint64_t least_used = slot.since;
  double best = 0.0;
  double best_samples = 0.0;
  double best_events = 0.0;
  std::uint64_t estimate = count_;
  double samples = 0.0;
  double events = 0.0;
  std::uint64_t first = count_;
  const auto likelihood = [&] {
    const double share = events / samples;
    const bool is_so = is_down ? share < p : share > p;
    return is_so ? samples * divergence(share, p) / inflation : 0.0;
  };
  for (std::uint64_t i = count_;
       i > oldest && used_ - static_cast<std::uint64_t>(samples) > least_used; --i) {
    const std::uint8_t held = history_[static_cast<std::size_t>((i - 1) % kHistory)];
    if (held == kNone) continue;
    const bool is_one = is_event(event, held);
    samples += 1.0;
    events += is_one ? 1.0 : 0.0;
    first = i - 1;
    if (is_one == is_down) continue;  // no start: the sample speaks against it
    const double found = likelihood();
    if (found > best) {
      best = found;
      best_samples = samples;
      best_events = events;
      estimate = i - 1;
    }
  }
  Change change;
  change.label = one.label;
  change.direction = best > 0.0 || statistic(slot, chart) > 0.0 ? real_side(event, chart) : 0;
  change.statistic = statistic(slot, chart);
  double share =
      (static_cast<double>(slot.seen) + 0.5) / (static_cast<double>(used_ - slot.since) + 1.0);
  if (best > 0.0) {
    // The earliest start that is nearly as likely.
    std::uint64_t earliest = estimate;
    samples = events = 0.0;
    for (std::uint64_t i = count_; i > first; --i) {
      const std::uint8_t held = history_[static_cast<std::size_t>((i - 1) % kHistory)];
      if (held == kNone) continue;
      samples += 1.0;
      events += is_event(event, held) ? 1.0 : 0.0;
      if (i - 1 < estimate && likelihood() > best - OnsetTracker::kDrop) earliest = i - 1;
    }
    change.onset.estimate = static_cast<std::int64_t>(estimate);
    change.onset.earliest = static_cast<std::int64_t>(earliest);
    change.onset.since_start = likelihood() > best - OnsetTracker::kDropAtStart;
    if (change.onset.since_start) change.onset.earliest = static_cast<std::int64_t>(first);
    share = (best_events + 0.5) / (best_samples + 1.0);
    change.onset.shift = std::log(share / (1.0 - share)) - std::log(p / (1.0 - p));
    change.onset.before = used_ - slot.since - static_cast<std::uint64_t>(best_samples);
    change.onset.sum_before =
        sum(event, change.onset.before, static_cast<double>(slot.seen) - best_events);
  }
  change.share = is_complement(event) ? 1.0 - share : share;
  change.reference = is_complement(event) ? 1.0 - reference_.share(one) : reference_.share(one);
  if (is_complement(event)) change.onset.shift = -change.onset.shift;
  return change;
}

bool LabelMix::is_latched() const noexcept {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (latches_[i].holds(used_, sum(i))) return true;
  }
  return false;
}

[[gnu::cold]] bool LabelMix::looks_normal() const noexcept {
  std::array<std::uint32_t, LabelReference::kMostEvents> seen{};
  double n = 0.0;
  const std::uint64_t oldest = std::max(began_, count_ > kHistory ? count_ - kHistory : 0);
  for (std::uint64_t i = count_; i > oldest && n < double{kSettled}; --i) {
    const std::uint8_t held = history_[static_cast<std::size_t>((i - 1) % kHistory)];
    if (held == kNone) continue;
    n += 1.0;
    for (std::size_t event = 0; event < slots_.size(); ++event) {
      seen[event] += is_event(event, held) ? 1U : 0U;
    }
  }
  const double doubt = 1.0 + n / static_cast<double>(reference_.samples_);
  for (std::size_t event = 0; event < slots_.size(); ++event) {
    const double away = n > 0.0 ? standard(event, seen[event] / n) * std::sqrt(n / doubt) : 0.0;
    if (std::fabs(away) > kSettledSd && seen[event] != 1) return false;
  }
  return true;
}

[[gnu::cold]] void LabelMix::accept() noexcept {
  if (!is_latched()) return;
  auto& events = reference_.events_;
  const std::uint64_t oldest =
      std::max({began_, changed_, count_ > kHistory ? count_ - kHistory : 0});
  std::uint64_t used = 0;
  std::size_t before = kNone;
  for (auto& event : events) event.count = event.runs = 0;
  for (std::uint64_t i = oldest; i < count_; ++i) {
    const std::uint8_t held = history_[static_cast<std::size_t>(i % kHistory)];
    if (held == kNone) continue;
    ++used;
    for (std::size_t event = 0; event < events.size(); ++event) {
      if (!is_event(event, held)) continue;
      ++events[event].count;
      if (before == kNone || !is_event(event, static_cast<std::uint8_t>(before))) {
        ++events[event].runs;
      }
    }
    before = held;
  }
  reference_.samples_ = std::max<std::uint64_t>(1, used);
  solve();
  for (Latch& latch : latches_) latch.clear();
  rising_ = 0;
  begin_all();
}

std::size_t LabelMix::memory_bytes() const noexcept {
  return sizeof *this + reference_.events_.capacity() * sizeof(LabelReference::Event) +
         complements_.capacity() * sizeof(std::size_t) + event_of_.capacity() +
         slots_.capacity() * sizeof(Slot) + latches_.capacity() * sizeof(Latch) +
         history_.capacity();
}

}  // namespace selfheal
