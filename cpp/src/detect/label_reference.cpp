#include "selfheal/detect/label_reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>

#include "detect/share_bounds.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("LBLR");

// Labels of a class rarely seen come in runs like those of all classes: as so many samples.
constexpr double kLikeOthers = 20.0;
constexpr double kBunchedZ = 3.0;       // beyond chance, of all events together
constexpr double kBunchedOneZ = 4.0;    // of one
constexpr double kFewestBlocks = 16.0;  // whose counts say how much these vary
constexpr double kWandering = 1.5;      // times as bunched over four times as many labels

// The normal distribution beyond z.
double beyond(double z) noexcept { return 0.5 * std::erfc(z / std::numbers::sqrt2); }

// How far a mean of squares lies beyond chance, of `degrees` of freedom (Wilson and Hilferty 1931).
double beyond_chance(double times, double degrees) noexcept {
  const double variance = 2.0 / (9.0 * degrees);
  return (std::cbrt(times) - (1.0 - variance)) / std::sqrt(variance);
}

}  // namespace

LabelReference::LabelReference(std::span<const std::int64_t> labels, std::size_t classes)
    : classes_(classes) {
  if (classes < 1 || classes > (std::uint64_t{1} << 31)) {
    refuse("classes", "1 to 2147483648", classes);
  }
  std::vector<std::uint64_t> runs(classes, 0);
  std::int64_t before = kRest;
  for (const std::int64_t label : labels) {
    if (label < 0) continue;
    if (static_cast<std::uint64_t>(label) >= classes)
      refuse("labels", "less than classes", static_cast<double>(label));
    if (label != before) ++runs[static_cast<std::size_t>(label)];
    before = label;
    ++samples_;
  }
  if (samples_ == 0) refuse("labels", "one label at least", std::string_view("none"));

  std::vector<std::size_t> order(classes);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t most = std::min(kMostClasses, classes);
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(),
      [&](std::size_t a, std::size_t b) { return runs[a] != runs[b] ? runs[a] > runs[b] : a < b; });
  order.resize(most);
  if (classes > kMostClasses) {
    std::erase_if(order, [&](std::size_t label) { return runs[label] < kLeastRuns; });
  }
  std::sort(order.begin(), order.end());
  std::vector<std::uint8_t> event_of(classes, static_cast<std::uint8_t>(order.size()));
  for (std::size_t i = 0; i < order.size(); ++i) {
    event_of[order[i]] = static_cast<std::uint8_t>(i);
    events_.push_back({static_cast<std::int64_t>(order[i]), false, 0, 0});
  }
  if (order.size() < classes) {
    Event rest;
    if (classes - order.size() == 1) {  // the rest is one class, which has a name
      for (std::size_t i = 0; i < classes; ++i) {
        if (event_of[i] == order.size()) rest.label = static_cast<std::int64_t>(i);
      }
    }
    events_.push_back(rest);
  }

  std::vector<std::uint8_t> held;
  held.reserve(static_cast<std::size_t>(samples_));
  for (const std::int64_t label : labels) {
    if (label >= 0) held.push_back(event_of[static_cast<std::size_t>(label)]);
  }
  for (std::size_t t = 0; t < held.size(); ++t) {
    ++events_[held[t]].count;
    if (t == 0 || held[t - 1] != held[t]) ++events_[held[t]].runs;
  }
  const std::size_t counted = events_.size();
  for (std::size_t i = 0; i < counted && counted > 2; ++i) {
    if (3 * events_[i].count <= samples_) continue;
    Event others{events_[i].label, true, samples_ - events_[i].count, 0};
    for (std::size_t t = 0; t < held.size(); ++t) {
      if (held[t] != i && (t == 0 || held[t - 1] == i)) ++others.runs;
    }
    events_.push_back(others);
  }
  measure_bunching(held, counted);
}

void LabelReference::measure_bunching(std::span<const std::uint8_t> held, std::size_t counted) {
  const auto n = static_cast<double>(samples_);
  std::vector<double> ratios;  // by the logarithm of how many samples a count has
  bool is_longest_bunched = false;
  std::vector<double> sums(counted);
  for (std::size_t length = 2; n / static_cast<double>(length) >= kFewestBlocks; length *= 2) {
    const auto m = static_cast<double>(length);
    const std::size_t blocks = held.size() / length;
    std::vector<double> squares(counted, 0.0);
    for (std::size_t block = 0; block < blocks; ++block) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::size_t t = 0; t < length; ++t) sums[held[block * length + t]] += 1.0;
      for (std::size_t i = 0; i < counted; ++i) {
        const double away = sums[i] - m * share(events_[i]);
        squares[i] += away * away;
      }
    }
    const double degrees = static_cast<double>(blocks) - 1.0;
    double seen = 0.0;
    double expected = 0.0;
    double expected_squares = 0.0;
    is_longest_bunched = false;
    for (std::size_t i = 0; i < counted; ++i) {
      const EventChain chain = likely(events_[i]);
      const double p = share(events_[i]);
      if (!(p > 0.0 && p < 1.0)) continue;
      const double r = chain.memory();
      const double usual =
          m * p * (1.0 - p) *
          (chain.inflation() - 2.0 * r * (1.0 - std::pow(r, m)) / (m * (1.0 - r) * (1.0 - r)));
      const double found = squares[i] / degrees;
      seen += found;
      expected += usual;
      expected_squares += usual * usual;
      if (static_cast<double>(events_[i].runs) >= degrees &&
          beyond_chance(found / usual, degrees) > kBunchedOneZ) {
        bunching_ = std::max(bunching_, found / usual);
        is_longest_bunched = true;
      }
    }
    if (!(expected > 0.0)) break;
    const double times = seen / expected;
    const double free =
        counted > 1 ? static_cast<double>(counted - 1) / static_cast<double>(counted) : 1.0;
    const double all = std::max(1.0, free * expected * expected / expected_squares);
    ratios.push_back(times);
    if (beyond_chance(times, degrees * all) > kBunchedZ) {
      bunching_ = std::max(bunching_, times);
      is_longest_bunched = true;
    }
  }
  wanders_ = is_longest_bunched && ratios.size() > 2 &&
             ratios.back() > kWandering * std::max(1.0, ratios[ratios.size() - 3]);
}

double LabelReference::share(const Event& event) const noexcept {
  return static_cast<double>(event.count) / static_cast<double>(samples_);
}

EventChain LabelReference::likely(const Event& event) const noexcept {
  const auto count = static_cast<double>(event.count);
  const auto runs = static_cast<double>(event.runs);
  const double others = static_cast<double>(samples_) - count;
  if (!(count > 0.0 && others > 0.0)) return {share(event), share(event)};
  return {std::min(1.0, runs / others), 1.0 - runs / count};
}

std::uint64_t LabelReference::changes() const noexcept {
  std::uint64_t all = 0;
  std::uint64_t most = 0;
  for (const Event& event : events_) {
    if (event.is_complement) continue;
    all += event.runs;
    most = std::max(most, event.runs);
  }
  return all - most;
}

double LabelReference::independent_labels() const noexcept {
  double inflated = 0.0;
  double all = 0.0;
  for (const Event& event : events_) {
    if (event.is_complement) continue;
    const double p = share(event);
    if (!(p > 0.0 && p < 1.0)) continue;
    inflated += p * (1.0 - p) * std::max(1.0, likely(event).inflation());
    all += p * (1.0 - p);
  }
  if (!(all > 0.0)) return 0.0;  // of one class: nothing says how often labels change
  return static_cast<double>(samples_) * all / (inflated * bunching_);
}

namespace {

// The same share with a memory that inflates variances so many times as much.
EventChain bunched(const EventChain& chain, double bunching) noexcept {
  if (!(bunching > 1.0)) return chain;
  const double inflation = chain.inflation() * bunching;
  return EventChain::of(chain.share(),
                        std::max(chain.memory(), (inflation - 1.0) / (inflation + 1.0)));
}

}  // namespace

EventChain LabelReference::most(const Event& event, double begin_sd,
                                double stay_sd) const noexcept {
  const auto count = static_cast<double>(event.count);
  const auto runs = static_cast<double>(event.runs);
  const double others = static_cast<double>(samples_) - count;
  double stays = 0.0;
  double all = 0.0;
  for (const Event& one : events_) {
    if (one.is_complement) continue;
    stays += static_cast<double>(one.count - one.runs);
    all += static_cast<double>(one.count);
  }
  // Of all classes the chance to stay is this much above what their shares say.
  double squares = 0.0;
  for (const Event& one : events_) squares += one.is_complement ? 0.0 : share(one) * share(one);
  const double memory = std::max(0.0, (stays / all - squares) / (1.0 - squares));
  const double p = share(event);
  const double like_others = kLikeOthers * (memory + (1.0 - memory) * p);
  const EventChain chain{
      detail::largest_share(runs / bunching_, others / bunching_, beyond(begin_sd), begin_sd),
      detail::largest_share(count - runs + like_others, count + kLikeOthers, beyond(stay_sd),
                            stay_sd)};
  // Runs go on for longer and begin as often: that much at most, whichever it is that bunches.
  return {chain.begin, bunched(chain, bunching_).stay};
}

EventChain LabelReference::least(const Event& event, double begin_sd,
                                 double stay_sd) const noexcept {
  const auto count = static_cast<double>(event.count);
  const auto runs = static_cast<double>(event.runs);
  const double others = static_cast<double>(samples_) - count;
  const EventChain chain{
      detail::smallest_share(runs / bunching_, others / bunching_, beyond(begin_sd), begin_sd),
      detail::smallest_share(count - runs, count, beyond(stay_sd), stay_sd)};
  return {bunched(chain, bunching_).begin, chain.stay};
}

std::vector<std::byte> LabelReference::state() const {
  StateWriter writer(kTag, 1);
  writer.u64(classes_);
  writer.u64(samples_);
  writer.f64(bunching_);
  writer.u8(wanders_ ? 1 : 0);
  writer.u64(events_.size());
  for (const Event& event : events_) {
    writer.u64(static_cast<std::uint64_t>(event.label));
    writer.u8(event.is_complement ? 1 : 0);
    writer.u64(event.count);
    writer.u64(event.runs);
  }
  return std::move(writer).finish();
}

LabelReference LabelReference::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
  LabelReference read;
  const std::uint64_t classes = reader.u64();
  StateReader::require(classes >= 1 && classes <= (std::uint64_t{1} << 31), "no such classes");
  read.classes_ = reader.claim(classes, 1);  // what LabelMix has of each
  read.samples_ = reader.u64();
  read.bunching_ = reader.f64();
  read.wanders_ = reader.u8() != 0;
  const std::uint64_t events = reader.u64();
  StateReader::require(read.samples_ >= 1 && std::isfinite(read.bunching_) &&
                           read.bunching_ >= 1.0 && events >= 1 && events <= kMostEvents,
                       "a reference out of range");
  read.events_.reserve(static_cast<std::size_t>(events));
  for (std::uint64_t i = 0; i < events; ++i) {
    Event event;
    event.label = static_cast<std::int64_t>(reader.u64());
    event.is_complement = reader.u8() != 0;
    event.count = reader.u64();
    event.runs = reader.u64();
    StateReader::require(event.label >= kRest && event.label < static_cast<std::int64_t>(classes) &&
                             event.count <= read.samples_ && event.runs <= event.count &&
                             (event.runs > 0 || event.count == 0),
                         "an event out of range");
    const auto is_same = [&](const Event& other) {
      return !other.is_complement && other.label == event.label;
    };
    StateReader::require(
        event.is_complement == std::any_of(read.events_.begin(), read.events_.end(), is_same),
        "a complement of nothing, or a class twice");
    StateReader::require(
        event.is_complement || read.events_.empty() || !read.events_.back().is_complement,
        "a class after what it is not");
    read.events_.push_back(event);
  }
  reader.finish();
  return read;
}

}  // namespace selfheal
