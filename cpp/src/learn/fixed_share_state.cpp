#include <algorithm>
#include <cmath>
#include <utility>

#include "exact_math.hpp"
#include "fixed_share_limits.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/learn/fixed_share.hpp"

namespace selfheal {

namespace {

using detail::exact_exp;
using detail::kLargestRate;
using detail::kMostExcess;
using detail::kMostLearning;

constexpr StateTag kTag = state_tag("FXSH");
constexpr std::uint16_t kVersion = 2;

}  // namespace

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
  made.learned_.log_rates = learned_.log_rates;
  made.heard_.log_rates = heard_.log_rates;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] == -1) continue;
    const auto old = static_cast<std::size_t>(places[i]);
    made.parts_[i] = parts_[old];
    for (std::size_t j = 0; j < places.size(); ++j) {
      if (places[j] != -1) made.excess_[i][j] = excess_[old][static_cast<std::size_t>(places[j])];
    }
  }
  if (made.awake() == 0) {
    for (Part& part : made.parts_) part.is_asleep = false;
  }
  const double even = 1.0 / static_cast<double>(made.awake());
  const auto seat = [&](const Mixture& from, Mixture& to) {
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
                                          : exact_exp(from.logs[k][old]);
        kept += linear[i];
      }
      for (std::size_t i = 0; i < places.size(); ++i) {
        linear[i] = places[i] == -1 ? even : linear[i] * std::max(room, kSmallestRate) / kept;
      }
      made.store(to, k, linear);
    }
  };
  seat(learned_, made.learned_);
  seat(heard_, made.heard_);
  made.publish();
  return made;
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
    writer.f64(heard_.log_rates[k]);
    for (std::size_t i = 0; i < members_; ++i) writer.f64(heard_.logs[k][i]);
  }
  for (std::size_t i = 0; i < members_; ++i) {
    writer.f64(parts_[i].past);
    writer.f64(parts_[i].excess);
    writer.f64(parts_[i].cap);
    writer.u32(parts_[i].returning);
    writer.u8(parts_[i].is_asleep ? 1 : 0);
  }
  for (std::size_t k = 0; k < rate_count_; ++k) {
    writer.f64(learned_.log_rates[k]);
    for (std::size_t i = 0; i < members_; ++i) writer.f64(learned_.logs[k][i]);
  }
  for (std::size_t i = 0; i < members_; ++i) {
    for (std::size_t j = 0; j < members_; ++j) writer.f64(excess_[i][j]);
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
  const auto logarithm = [&reader](const char* what) {
    const double value = reader.f64();
    StateReader::require(value <= 1e-9 && value >= -709.0, what);
    return value;
  };
  const auto take = [&](Mixture& to, std::size_t k) {
    to.log_rates[k] = logarithm("rates");
    for (std::size_t i = 0; i < members; ++i) to.logs[k][i] = logarithm("weights");
  };
  for (std::size_t k = 0; k < rates; ++k) {
    made.rates_[k] = reader.f64();
    StateReader::require(made.rates_[k] >= kSmallestRate && made.rates_[k] <= kLargestRate,
                         "rates");
    take(made.heard_, k);
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
  if (reader.version() < 2) {  // all was learned
    made.learned_ = made.heard_;
  } else {
    for (std::size_t k = 0; k < rates; ++k) take(made.learned_, k);
    for (std::size_t i = 0; i < members; ++i) {
      for (std::size_t j = 0; j < members; ++j) {
        double& excess = made.excess_[i][j];
        excess = reader.f64();
        StateReader::require(excess >= 0.0 && excess <= kMostExcess, "doubts");
      }
    }
  }
  reader.finish();
  StateReader::require(made.awake() > 0, "members");
  made.publish();
  return made;
}

}  // namespace selfheal
