#include "selfheal/learn/fixed_share.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "exact_math.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {

namespace {

using detail::exact_exp;
using detail::exact_log;

constexpr StateTag kTag = state_tag("FXSH");
constexpr std::uint16_t kVersion = 1;
constexpr double kRateShare = 1.0 / 1024.0;
constexpr double kPastPace = 1.0 / 256.0;
constexpr double kMostLearning = 4.0;
constexpr double kLargestRate = 0.5;

}  // namespace

FixedShare::FixedShare(std::size_t members, double learning_rate, std::span<const double> rates,
                       double floor)
    : members_(members), rate_count_(rates.size()), learning_rate_(learning_rate), floor_(floor) {
  if (members < 1 || members > kMostMembers) refuse("members", "1 to 16", members);
  if (!(learning_rate > 0.0 && learning_rate <= kMostLearning)) {
    refuse("learning_rate", "a number above 0 and at most 4", learning_rate);
  }
  if (rates.empty() || rates.size() > kMostRates) refuse("rates", "1 to 8 of them", rates.size());
  for (const double rate : rates) {
    if (!(rate >= kSmallestRate && rate <= kLargestRate)) {
      refuse("rates", "numbers from 1e-6 to 0.5", rate);
    }
  }
  const double most = 0.5 / static_cast<double>(members);
  if (!(floor >= 0.0 && floor <= most)) {
    refuse("floor", "0 to 1 / (2 * members) = " + std::to_string(most), floor);
  }
  std::copy(rates.begin(), rates.end(), rates_.begin());
  const double even = 1.0 / static_cast<double>(members);
  for (std::size_t k = 0; k < rate_count_; ++k) {
    log_rates_[k] = -exact_log(static_cast<double>(rate_count_));
    for (std::size_t i = 0; i < members_; ++i) logs_[k][i] = exact_log(even);
  }
  for (std::size_t i = 0; i < members_; ++i) parts_[i].past = even;
  publish();
}

std::size_t FixedShare::awake() const noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < members_; ++i) count += parts_[i].is_asleep ? 0U : 1U;
  return count;
}

/// Moves the weights of members that return towards what they had before; returns how much went.
double FixedShare::pull_back(Row& linear, double strength) const noexcept {
  double moved = 0.0;
  for (std::size_t i = 0; i < members_; ++i) {
    const Part& part = parts_[i];
    if (part.is_asleep || part.returning == 0 || !(linear[i] < part.past)) continue;
    const double next = linear[i] + strength * (part.past - linear[i]);
    const double others = (1.0 - next) / (1.0 - linear[i]);
    moved += next - linear[i];
    for (std::size_t j = 0; j < members_; ++j) {
      if (!parts_[j].is_asleep && j != i) linear[j] *= others;
    }
    linear[i] = next;
  }
  return moved;
}

/// Stores the weights of those that are awake under one rate.
void FixedShare::store(std::size_t rate, const Row& linear) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < members_; ++i) sum += parts_[i].is_asleep ? 0.0 : linear[i];
  for (std::size_t i = 0; i < members_; ++i) {
    if (!parts_[i].is_asleep) logs_[rate][i] = exact_log(linear[i] / sum);
  }
}

void FixedShare::update(std::span<const double> losses, double influence) noexcept {
  if (losses.size() != members_ || !(influence > 0.0 && influence <= 1.0)) return;
  std::size_t reporting = 0;
  std::array<bool, kMostMembers> reports{};
  for (std::size_t i = 0; i < members_; ++i) {
    if (parts_[i].is_asleep || std::isnan(losses[i])) continue;
    if (!(losses[i] >= 0.0 && losses[i] <= 1.0)) return;
    reports[i] = true;
    ++reporting;
  }
  if (reporting < 2) return;
  const double pace = learning_rate_ * influence;
  Row kept{};  // what is left of each member's weight
  for (std::size_t i = 0; i < members_; ++i) {
    kept[i] = reports[i] ? exact_exp(-pace * losses[i]) : 1.0;
  }
  const double even = 1.0 / static_cast<double>(awake());
  std::array<double, kMostRates> gains{};
  double mixed_before = 0.0;
  double mixed_after = 0.0;
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    double before = 0.0;
    double after = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep) continue;
      linear[i] = exact_exp(logs_[k][i]);
      if (!reports[i]) continue;
      before += linear[i];
      linear[i] *= kept[i];
      after += linear[i];
    }
    const double scale = before / after;
    const double rate = rates_[k] * influence;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep) continue;
      if (reports[i]) linear[i] *= scale;
      linear[i] = (1.0 - rate) * linear[i] + rate * even;
    }
    pull_back(linear, kReturn * influence);
    store(k, linear);
    gains[k] = exact_log(after / before);
    const double of_rate = exact_exp(log_rates_[k]);
    mixed_before += of_rate;
    mixed_after += of_rate * (after / before);
  }
  const double gain = exact_log(mixed_after / mixed_before);  // -(loss of the mixture) * pace
  mixture_loss_ -= gain / learning_rate_;
  for (std::size_t k = 0; k < rate_count_; ++k) {
    const double next = exact_exp(log_rates_[k] + gains[k] - gain);
    log_rates_[k] =
        exact_log((1.0 - kRateShare) * next + kRateShare / static_cast<double>(rate_count_));
  }
  publish();
  for (std::size_t i = 0; i < members_; ++i) {
    Part& part = parts_[i];
    if (part.is_asleep) continue;
    if (part.returning == 0) {
      part.past += kPastPace * influence * (weights_[i] - part.past);
      continue;
    }
    --part.returning;
    if (reports[i]) part.excess = std::max(0.0, part.excess + pace * losses[i] + gain);
    if (part.excess > kDoubt) part.returning = 0;
  }
  ++rounds_;
}

void FixedShare::prove(std::size_t member) noexcept {
  if (member >= members_ || parts_[member].is_asleep || parts_[member].returning == 0) return;
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    for (std::size_t i = 0; i < members_; ++i) {
      if (!parts_[i].is_asleep) linear[i] = exact_exp(logs_[k][i]);
    }
    // Its own return alone.
    const Part& part = parts_[member];
    if (linear[member] < part.past) {
      const double next = linear[member] + kReturn * (part.past - linear[member]);
      const double others = (1.0 - next) / (1.0 - linear[member]);
      for (std::size_t j = 0; j < members_; ++j) linear[j] *= others;
      linear[member] = next;
    }
    store(k, linear);
  }
  --parts_[member].returning;
  publish();
}

/// Sets one member's weight, of those awake, under every rate; the others keep their proportions.
void FixedShare::pin(std::size_t member, double weight) noexcept {
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    double others = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || i == member) continue;
      linear[i] = exact_exp(logs_[k][i]);
      others += linear[i];
    }
    if (others > 0.0) {
      for (std::size_t i = 0; i < members_; ++i) linear[i] *= (1.0 - weight) / others;
    }
    linear[member] = weight;
    store(k, linear);
  }
}

bool FixedShare::set_asleep(std::span<const bool> asleep) noexcept {
  if (asleep.size() != members_) return false;
  if (std::find(asleep.begin(), asleep.end(), false) == asleep.end()) return false;
  std::array<bool, kMostMembers> wakes{};
  for (std::size_t i = 0; i < members_; ++i) {
    Part& part = parts_[i];
    wakes[i] = part.is_asleep && !asleep[i];
    if (!part.is_asleep && asleep[i]) {
      if (part.returning == 0) part.past = std::max(part.past, weights_[i]);
      part.returning = 0;
      part.excess = 0.0;
      part.is_asleep = true;
    }
  }
  const std::size_t before = awake();
  for (std::size_t k = 0; k < rate_count_ && before > 0; ++k) {
    Row linear{};
    for (std::size_t i = 0; i < members_; ++i) {
      if (!parts_[i].is_asleep) linear[i] = exact_exp(logs_[k][i]);
    }
    store(k, linear);
  }
  for (std::size_t i = 0; i < members_; ++i) {
    if (!wakes[i]) continue;
    Part& part = parts_[i];
    part.is_asleep = false;
    part.returning = kReturnRounds;
    part.excess = 0.0;
    const std::size_t now = awake();
    // A logarithm needs a weight.
    const double least = std::max(floor_, kSmallestRate);
    if (now > 1) {
      pin(i, least);
    } else {
      pin(i, 1.0);
    }
  }
  publish();
  return true;
}

void FixedShare::restore(std::size_t member) noexcept {
  if (member >= members_ || parts_[member].is_asleep) return;
  parts_[member].returning = kReturnRounds;
  parts_[member].excess = 0.0;
}

void FixedShare::set_cap(std::size_t member, double most) noexcept {
  if (member >= members_ || !(most > 0.0)) return;
  parts_[member].cap = std::min(1.0, std::max(most, floor_));
  publish();
}

void FixedShare::set_weight(std::size_t member, double weight) noexcept {
  if (member >= members_ || parts_[member].is_asleep || awake() < 2) return;
  const double least = std::max(floor_, kSmallestRate);
  const double most = 1.0 - least * static_cast<double>(awake() - 1);
  if (!(weight >= 0.0)) return;
  pin(member, std::clamp(weight, least, most));
  parts_[member].past = std::clamp(weight, least, most);
  publish();
}

FixedShare FixedShare::seated(std::span<const int> places) const {
  FixedShare made(places.size(), learning_rate_, {rates_.data(), rate_count_}, floor_);
  std::array<bool, kMostMembers> taken{};
  for (const int place : places) {
    if (place == -1) continue;
    const auto old = static_cast<std::size_t>(place);
    if (place < -1 || old >= members_ || taken[old]) {
      refuse("places", "members of now, none twice, or -1", place);
    }
    taken[old] = true;
  }
  made.mixture_loss_ = mixture_loss_;
  made.rounds_ = rounds_;
  made.log_rates_ = log_rates_;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] != -1) made.parts_[i] = parts_[static_cast<std::size_t>(places[i])];
  }
  if (made.awake() == 0) {
    for (Part& part : made.parts_) part.is_asleep = false;
  }
  const double even = 1.0 / static_cast<double>(made.awake());
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    double kept = 0.0;  // weight of those that stay
    double room = 1.0;  // what newcomers leave them
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (made.parts_[i].is_asleep) continue;
      if (places[i] == -1) {
        room -= even;
        continue;
      }
      const auto old = static_cast<std::size_t>(places[i]);
      linear[i] = parts_[old].is_asleep ? std::max(parts_[old].past, kSmallestRate)
                                        : exact_exp(logs_[k][old]);
      kept += linear[i];
    }
    for (std::size_t i = 0; i < places.size(); ++i) {
      linear[i] = places[i] == -1 ? even : linear[i] * std::max(room, kSmallestRate) / kept;
    }
    made.store(k, linear);
  }
  made.publish();
  return made;
}

FixedShare::Row FixedShare::mixed() const noexcept {
  Row found{};
  for (std::size_t k = 0; k < rate_count_; ++k) {
    const double of_rate = exact_exp(log_rates_[k]);
    for (std::size_t i = 0; i < members_; ++i) {
      if (!parts_[i].is_asleep) found[i] += of_rate * exact_exp(logs_[k][i]);
    }
  }
  return found;
}

/// Finds the weights between floors and caps: members at a bound keep it, the others share what is
/// left in proportion. Each pass settles a member or ends.
void FixedShare::publish() noexcept {
  ++version_;
  const Row raw = mixed();
  std::array<bool, kMostMembers> settled{};
  Row found{};
  double left = 1.0;
  double free = 0.0;
  std::size_t open = 0;
  for (std::size_t i = 0; i < members_; ++i) {
    if (parts_[i].is_asleep) continue;
    free += raw[i];
    ++open;
  }
  double caps = 0.0;
  for (std::size_t i = 0; i < members_; ++i) caps += parts_[i].is_asleep ? 0.0 : parts_[i].cap;
  // Caps that leave a part of 1 to no member hold in proportion.
  const double wider = caps < 1.0 ? 1.0 / caps : 1.0;
  while (open > 0) {
    const double scale = left / free;
    double lacking = 0.0;
    double beyond = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || settled[i]) continue;
      lacking += std::max(0.0, floor_ - raw[i] * scale);
      beyond += std::max(0.0, raw[i] * scale - parts_[i].cap * wider);
    }
    const bool at_floor = lacking >= beyond;
    bool any = false;
    double taken = 0.0;
    double weight = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || settled[i]) continue;
      const double at = raw[i] * scale;
      const double bound = at_floor ? floor_ : parts_[i].cap * wider;
      if (at_floor ? !(at < bound) : !(at > bound)) continue;
      found[i] = bound;
      settled[i] = any = true;
      taken += bound;
      weight += raw[i];
      --open;
    }
    if (!any) {
      for (std::size_t i = 0; i < members_; ++i) {
        if (!parts_[i].is_asleep && !settled[i]) found[i] = raw[i] * scale;
      }
      break;
    }
    left = std::max(0.0, left - taken);
    free = std::max(0.0, free - weight);
    if (open > 0 && !(free > 0.0)) free = 1e-300;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < members_; ++i) sum += found[i];
  for (std::size_t i = 0; i < members_; ++i) weights_[i] = found[i] / sum;
}

std::array<double, FixedShare::kMostRates> FixedShare::rate_weights() const noexcept {
  std::array<double, kMostRates> found{};
  double sum = 0.0;
  for (std::size_t k = 0; k < rate_count_; ++k) sum += found[k] = exact_exp(log_rates_[k]);
  for (std::size_t k = 0; k < rate_count_; ++k) found[k] /= sum;
  return found;
}

double FixedShare::bound(std::uint64_t rounds, std::uint64_t switches) const noexcept {
  const auto n = static_cast<double>(members_);
  const auto t = static_cast<double>(rounds);
  const auto k = static_cast<double>(switches);
  double least = INFINITY;
  for (std::size_t r = 0; r < rate_count_; ++r) {
    const double leaves = rates_[r] / n;  // to each other one
    const double stays = 1.0 - rates_[r] + leaves;
    const double path =
        exact_log(n) - k * exact_log(leaves) - std::max(0.0, t - 1.0 - k) * exact_log(stays);
    least = std::min(least, path);
  }
  const double rates =
      exact_log(static_cast<double>(rate_count_)) - t * exact_log(1.0 - kRateShare);
  return (least + (rate_count_ > 1 ? rates : 0.0)) / learning_rate_;
}

std::vector<std::byte> FixedShare::state() const {
  StateWriter writer(kTag, kVersion);
  writer.u32(static_cast<std::uint32_t>(members_));
  writer.u32(static_cast<std::uint32_t>(rate_count_));
  writer.f64(learning_rate_);
  writer.f64(floor_);
  writer.f64(mixture_loss_);
  writer.u64(rounds_);
  for (std::size_t k = 0; k < rate_count_; ++k) {
    writer.f64(rates_[k]);
    writer.f64(log_rates_[k]);
    for (std::size_t i = 0; i < members_; ++i) writer.f64(logs_[k][i]);
  }
  for (std::size_t i = 0; i < members_; ++i) {
    writer.f64(parts_[i].past);
    writer.f64(parts_[i].excess);
    writer.f64(parts_[i].cap);
    writer.u32(parts_[i].returning);
    writer.u8(parts_[i].is_asleep ? 1 : 0);
  }
  return std::move(writer).finish();
}

FixedShare FixedShare::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, kVersion);
  const std::uint32_t members = reader.u32();
  const std::uint32_t rates = reader.u32();
  StateReader::require(members >= 1 && members <= kMostMembers && rates >= 1 && rates <= kMostRates,
                       "members or rates");
  FixedShare made;
  made.members_ = members;
  made.rate_count_ = rates;
  made.learning_rate_ = reader.f64();
  made.floor_ = reader.f64();
  made.mixture_loss_ = reader.f64();
  made.rounds_ = reader.u64();
  StateReader::require(
      made.learning_rate_ > 0.0 && made.learning_rate_ <= kMostLearning && made.floor_ >= 0.0 &&
          made.floor_ <= 0.5 / static_cast<double>(members) && std::isfinite(made.mixture_loss_),
      "rates");
  for (std::size_t k = 0; k < rates; ++k) {
    made.rates_[k] = reader.f64();
    made.log_rates_[k] = reader.f64();
    StateReader::require(made.rates_[k] >= kSmallestRate && made.rates_[k] <= kLargestRate &&
                             made.log_rates_[k] <= 1e-9 && made.log_rates_[k] >= -709.0,
                         "rates");
    for (std::size_t i = 0; i < members; ++i) {
      made.logs_[k][i] = reader.f64();
      StateReader::require(made.logs_[k][i] <= 1e-9 && made.logs_[k][i] >= -709.0, "weights");
    }
  }
  for (std::size_t i = 0; i < members; ++i) {
    Part& part = made.parts_[i];
    part.past = reader.f64();
    part.excess = reader.f64();
    part.cap = reader.f64();
    part.returning = reader.u32();
    const std::uint8_t asleep = reader.u8();
    part.is_asleep = asleep == 1;
    StateReader::require(part.past >= 0.0 && part.past <= 1.0 && part.excess >= 0.0 &&
                             std::isfinite(part.excess) && part.cap > 0.0 && part.cap <= 1.0 &&
                             part.cap >= made.floor_ && part.returning <= kReturnRounds &&
                             asleep <= 1,
                         "members");
  }
  reader.finish();
  StateReader::require(made.awake() > 0, "members");
  made.publish();
  return made;
}

}  // namespace selfheal
