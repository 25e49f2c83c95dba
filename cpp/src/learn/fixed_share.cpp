#include "selfheal/learn/fixed_share.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "exact_math.hpp"
#include "fixed_share_limits.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {

namespace {

using detail::exact_exp;
using detail::exact_log;
using detail::kLargestRate;
using detail::kMostExcess;
using detail::kMostLearning;

constexpr double kRateShare = 1.0 / 1024.0;
constexpr double kPastPace = 1.0 / 256.0;
constexpr double kReach = 0.04;       // of a weight, by labels that may be false
constexpr double kFalseLabels = 0.4;  // twice the share of them, a fifth
constexpr double kPatience = 2.0;     // losses of whole labels that may come by chance together
constexpr double kSteepness = 8.0;    // above it: in a third of a label a weight is gone

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
    learned_.log_rates[k] = -exact_log(static_cast<double>(rate_count_));
    for (std::size_t i = 0; i < members_; ++i) learned_.logs[k][i] = exact_log(even);
  }
  heard_ = learned_;
  for (std::size_t i = 0; i < members_; ++i) parts_[i].past = even;
  publish();
}

std::size_t FixedShare::awake() const noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < members_; ++i) count += parts_[i].is_asleep ? 0U : 1U;
  return count;
}

/// Moves the weights of members that return towards what they had before.
void FixedShare::pull_back(Row& linear, double strength) const noexcept {
  for (std::size_t i = 0; i < members_; ++i) {
    const Part& part = parts_[i];
    if (part.is_asleep || part.returning == 0 || !(linear[i] < part.past)) continue;
    const double next = linear[i] + strength * (part.past - linear[i]);
    const double others = (1.0 - next) / (1.0 - linear[i]);
    for (std::size_t j = 0; j < members_; ++j) {
      if (!parts_[j].is_asleep && j != i) linear[j] *= others;
    }
    linear[i] = next;
  }
}

void FixedShare::pull_back(Mixture& mixture, double strength) noexcept {
  const auto returns = [](const Part& part) { return !part.is_asleep && part.returning > 0; };
  if (std::none_of(parts_.begin(), parts_.begin() + static_cast<std::ptrdiff_t>(members_), returns))
    return;
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    for (std::size_t i = 0; i < members_; ++i) {
      if (!parts_[i].is_asleep) linear[i] = exact_exp(mixture.logs[k][i]);
    }
    pull_back(linear, strength);
    store(mixture, k, linear);
  }
}

/// Stores the weights of those that are awake under one rate.
void FixedShare::store(Mixture& mixture, std::size_t rate, const Row& linear) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < members_; ++i) sum += parts_[i].is_asleep ? 0.0 : linear[i];
  for (std::size_t i = 0; i < members_; ++i) {
    if (!parts_[i].is_asleep) mixture.logs[rate][i] = exact_log(linear[i] / sum);
  }
}

/// Says which members have a loss; fewer than two where the round changes nothing.
FixedShare::Round FixedShare::read(std::span<const double> losses,
                                   double influence) const noexcept {
  Round round;
  if (losses.size() != members_ || !(influence > 0.0 && influence <= 1.0)) return round;
  for (std::size_t i = 0; i < members_; ++i) {
    if (parts_[i].is_asleep || std::isnan(losses[i])) continue;
    if (!(losses[i] >= 0.0 && losses[i] <= 1.0)) return {};
    round.reports[i] = true;
    ++round.count;
  }
  return round;
}

/// Has a mixture follow a round; returns -(its loss) * the pace.
double FixedShare::follow(Mixture& mixture, std::span<const double> losses, const Round& round,
                          double influence) noexcept {
  const double pace = learning_rate_ * influence;
  Row kept{};  // what is left of each member's weight
  for (std::size_t i = 0; i < members_; ++i) {
    kept[i] = round.reports[i] ? exact_exp(-pace * losses[i]) : 1.0;
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
      linear[i] = exact_exp(mixture.logs[k][i]);
      if (!round.reports[i]) continue;
      before += linear[i];
      linear[i] *= kept[i];
      after += linear[i];
    }
    const double scale = before / after;
    const double rate = rates_[k] * influence;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep) continue;
      if (round.reports[i]) linear[i] *= scale;
      linear[i] = (1.0 - rate) * linear[i] + rate * even;
    }
    pull_back(linear, kReturn * influence);
    store(mixture, k, linear);
    gains[k] = exact_log(after / before);
    const double of_rate = exact_exp(mixture.log_rates[k]);
    mixed_before += of_rate;
    mixed_after += of_rate * (after / before);
  }
  const double gain = exact_log(mixed_after / mixed_before);
  for (std::size_t k = 0; k < rate_count_; ++k) {
    const double next = exact_exp(mixture.log_rates[k] + gains[k] - gain);
    mixture.log_rates[k] =
        exact_log((1.0 - kRateShare) * next + kRateShare / static_cast<double>(rate_count_));
  }
  return gain;
}

/// Sums what a member's losses exceed another's by, beyond what false labels may have done.
void FixedShare::doubt(std::span<const double> losses, const Round& round, double influence,
                       double importance) noexcept {
  for (std::size_t i = 0; i < members_; ++i) {
    for (std::size_t j = 0; j < members_; ++j) {
      if (i == j || !round.reports[i] || !round.reports[j]) continue;
      const double more = importance * (losses[i] - losses[j]) - kFalseLabels;
      excess_[i][j] = std::clamp(excess_[i][j] + influence * more, 0.0, kMostExcess);
    }
  }
}

void FixedShare::forget_doubts(std::size_t member) noexcept {
  excess_[member].fill(0.0);
  for (Row& row : excess_) row[member] = 0.0;
}

/// Keeps what members weigh in the long run, and has those that return go on or give up.
void FixedShare::end_round(std::span<const double> losses, const Round& round, double influence,
                           double gain) noexcept {
  publish();
  const double pace = learning_rate_ * influence;
  for (std::size_t i = 0; i < members_; ++i) {
    Part& part = parts_[i];
    if (part.is_asleep) continue;
    if (part.returning == 0) {
      part.past += kPastPace * influence * (weights_[i] - part.past);
      continue;
    }
    --part.returning;
    if (round.reports[i]) part.excess = std::max(0.0, part.excess + pace * losses[i] + gain);
    if (part.excess > kDoubt) part.returning = 0;
  }
  ++rounds_;
}

void FixedShare::update(std::span<const double> losses, double influence) noexcept {
  const Round round = read(losses, influence);
  if (round.count < 2) return;
  doubt(losses, round, influence, 0.0);  // a label that is true allays doubts, whatever it says
  follow(learned_, losses, round, influence);
  const double gain = follow(heard_, losses, round, influence);
  mixture_loss_ -= gain / learning_rate_;
  end_round(losses, round, influence, gain);
}

void FixedShare::hear(std::span<const double> losses, double influence,
                      double importance) noexcept {
  const Round round = read(losses, influence);
  if (round.count < 2 || !(importance >= 0.0 && importance <= 1.0)) return;
  doubt(losses, round, influence, importance);
  pull_back(learned_, kReturn * influence);
  const double gain = follow(heard_, losses, round, influence);
  mixture_loss_ -= gain / learning_rate_;
  end_round(losses, round, influence, gain);
}

void FixedShare::prove(std::size_t member) noexcept {
  if (member >= members_ || parts_[member].is_asleep || parts_[member].returning == 0) return;
  const Part& part = parts_[member];
  for (Mixture* const mixture : {&learned_, &heard_}) {
    for (std::size_t k = 0; k < rate_count_; ++k) {
      Row linear{};
      for (std::size_t i = 0; i < members_; ++i) {
        if (!parts_[i].is_asleep) linear[i] = exact_exp(mixture->logs[k][i]);
      }
      // Its own return alone.
      if (linear[member] < part.past) {
        const double next = linear[member] + kReturn * (part.past - linear[member]);
        const double others = (1.0 - next) / (1.0 - linear[member]);
        for (std::size_t j = 0; j < members_; ++j) linear[j] *= others;
        linear[member] = next;
      }
      store(*mixture, k, linear);
    }
  }
  --parts_[member].returning;
  publish();
}

/// Sets one member's weight, of those awake, under every rate; the others keep their proportions.
void FixedShare::pin(Mixture& mixture, std::size_t member, double weight) noexcept {
  for (std::size_t k = 0; k < rate_count_; ++k) {
    Row linear{};
    double others = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || i == member) continue;
      linear[i] = exact_exp(mixture.logs[k][i]);
      others += linear[i];
    }
    if (others > 0.0) {
      for (std::size_t i = 0; i < members_; ++i) linear[i] *= (1.0 - weight) / others;
    }
    linear[member] = weight;
    store(mixture, k, linear);
  }
}

void FixedShare::pin(std::size_t member, double weight) noexcept {
  pin(learned_, member, weight);
  pin(heard_, member, weight);
  forget_doubts(member);
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
      forget_doubts(i);
    }
  }
  for (Mixture* const mixture : {&learned_, &heard_}) {
    for (std::size_t k = 0; k < rate_count_ && awake() > 0; ++k) {
      Row linear{};
      for (std::size_t i = 0; i < members_; ++i) {
        if (!parts_[i].is_asleep) linear[i] = exact_exp(mixture->logs[k][i]);
      }
      store(*mixture, k, linear);
    }
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
  const Row& doubts = excess_[member];
  if (awake() > 1 && *std::max_element(doubts.begin(), doubts.end()) > kPatience) {
    // From where doubts have brought it.
    const double least = std::max(floor_, kSmallestRate);
    const double most = 1.0 - least * static_cast<double>(awake() - 1);
    pin(learned_, member, std::clamp(weights_[member], least, most));
  }
  forget_doubts(member);
  parts_[member].returning = kReturnRounds;
  parts_[member].excess = 0.0;
  publish();
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

FixedShare::Row FixedShare::mixed(const Mixture& mixture) const noexcept {
  Row found{};
  for (std::size_t k = 0; k < rate_count_; ++k) {
    const double of_rate = exact_exp(mixture.log_rates[k]);
    for (std::size_t i = 0; i < members_; ++i) {
      if (!parts_[i].is_asleep) found[i] += of_rate * exact_exp(mixture.logs[k][i]);
    }
  }
  return found;
}

/// Finds weights between bounds: members at a bound keep it, the others share what is left in
/// proportion. Each pass settles a member or ends.
FixedShare::Row FixedShare::settled(const Row& raw, const Row& least,
                                    const Row& most) const noexcept {
  std::array<bool, kMostMembers> is_settled{};
  Row found{};
  double left = 1.0;
  double free = 0.0;
  std::size_t open = 0;
  for (std::size_t i = 0; i < members_; ++i) {
    if (parts_[i].is_asleep) continue;
    free += raw[i];
    ++open;
  }
  while (open > 0) {
    const double scale = left / free;
    double lacking = 0.0;
    double beyond = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || is_settled[i]) continue;
      lacking += std::max(0.0, least[i] - raw[i] * scale);
      beyond += std::max(0.0, raw[i] * scale - most[i]);
    }
    const bool at_least = lacking >= beyond;
    bool any = false;
    double taken = 0.0;
    double weight = 0.0;
    for (std::size_t i = 0; i < members_; ++i) {
      if (parts_[i].is_asleep || is_settled[i]) continue;
      const double at = raw[i] * scale;
      const double bound = at_least ? least[i] : most[i];
      if (at_least ? !(at < bound) : !(at > bound)) continue;
      found[i] = bound;
      is_settled[i] = any = true;
      taken += bound;
      weight += raw[i];
      --open;
    }
    if (!any) {
      for (std::size_t i = 0; i < members_; ++i) {
        if (!parts_[i].is_asleep && !is_settled[i]) found[i] = raw[i] * scale;
      }
      break;
    }
    left = std::max(0.0, left - taken);
    free = std::max(0.0, free - weight);
    if (open > 0 && !(free > 0.0)) free = 1e-300;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < members_; ++i) sum += found[i];
  for (std::size_t i = 0; i < members_; ++i) found[i] /= sum;
  return found;
}

void FixedShare::publish() noexcept {
  ++version_;
  double caps = 0.0;
  for (std::size_t i = 0; i < members_; ++i) caps += parts_[i].is_asleep ? 0.0 : parts_[i].cap;
  // Caps that leave a part of 1 to no member hold in proportion.
  const double wider = caps < 1.0 ? 1.0 / caps : 1.0;
  Row least{};
  Row most{};
  Row sure = mixed(learned_);
  for (std::size_t i = 0; i < members_; ++i) {
    least[i] = floor_;
    most[i] = parts_[i].cap * wider;
    const Row& doubts = excess_[i];
    const double worst = *std::max_element(doubts.begin(), doubts.end());
    if (worst > kPatience) sure[i] *= exact_exp(kSteepness * (kPatience - worst));
  }
  sure = settled(sure, least, most);
  for (std::size_t i = 0; i < members_; ++i) {
    least[i] = std::max(least[i], sure[i] - kReach);
    most[i] = std::min(most[i], sure[i] + kReach);
  }
  weights_ = settled(mixed(heard_), least, most);
}

std::array<double, FixedShare::kMostRates> FixedShare::rate_weights() const noexcept {
  std::array<double, kMostRates> found{};
  double sum = 0.0;
  for (std::size_t k = 0; k < rate_count_; ++k) sum += found[k] = exact_exp(heard_.log_rates[k]);
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

}  // namespace selfheal
