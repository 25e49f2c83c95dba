#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// Weights of a few members that answer together, from what is known of their losses.
///
/// Fixed share (Herbster and Warmuth 1998, Tracking the best expert), with the switching rate
/// learned by a mixture of a few rates. For each rate a, with losses l from 0 to 1 and the learning
/// rate h:
///
///     v[i]  = w[i] e^(-h l[i]),   z = log sum v - log sum w
///     w'[i] = (1 - a) v[i] / sum v + a / members awake
///
/// and the weight of the rate itself is multiplied by e^z, of which a 1024th is shared out again.
/// All is kept as logarithms. A member without a loss (NaN) keeps its weight, as a specialist does
/// that has nothing to say (Freund et al. 1997).
///
/// Regret: with losses for which e^(-h loss) is concave in the answer, and no sleep, floor or cap,
/// the loss of the weighted mean exceeds that of the best sequence of members with k switches in T
/// rounds by at most what bound() says.
///
/// A label may weigh less than one (`influence`): the learning rate and the switching rate are
/// multiplied by it. So one label moves the odds between two members by at most
/// e^(learning rate * influence).
///
/// Sleep: a sleeper has no weight, and its share goes to the others in proportion. It wakes at the
/// floor and returns within kReturnRounds rounds to the share that it had before (mixing past
/// posteriors, Bousquet and Warmuth 2002): an eighth of what is missing with each round, until its
/// losses exceed those of the mixture by kDoubt. What it had is the larger of its weight as it fell
/// asleep and of its mean weight over some 256 rounds before.
///
/// False labels: what a source may say that can err, or lie, is heard (hear()) and not learned
/// (update()). There are two mixtures, one of the learned rounds and one of all. Weights follow the
/// second by 0.04 from what the first says, and no further: labels may be lies. Further they go
/// where lies of one in five cannot be the reason. A lie moves the difference of two members'
/// losses by at most 2, so a fifth of them by 2/5 a round. For each pair a CUSUM (Page 1954) sums
/// what exceeds that, up to 3; a member of which one of its sums is above 2 loses weight by e^-8
/// for each unit more. A source may choose of what it speaks: `importance` says how often such a
/// round is among all, against among those that are heard.
///
/// What weights() says is the mixture's weight, not below `floor` and not above a member's cap.
/// Where caps would leave less than 1 in all, they hold in proportion.
///
/// exp and log are our own, so that a state goes on bit for bit on every machine. One update of 3
/// members and 5 rates takes some 3 us. Bytes: memory_bytes(), fixed at construction; nothing
/// allocates later. One object, one thread.
class FixedShare {
 public:
  static constexpr std::size_t kMostMembers = 16;
  static constexpr std::size_t kMostRates = 8;
  static constexpr std::uint32_t kReturnRounds = 32;
  static constexpr double kReturn = 0.125;
  static constexpr double kDoubt = 1.0;
  static constexpr double kSmallestRate = 1e-6;

  /// members: 1 to 16. learning_rate: more than 0, at most 4. rates: 1 to 8 switching rates, each
  /// from 1e-6 to 0.5. floor: 0 to 1 / (2 members).
  FixedShare(std::size_t members, double learning_rate, std::span<const double> rates,
             double floor);

  /// Takes a round: a loss a member, from 0 to 1, NaN for none. influence: 0 to 1. Losses of
  /// sleepers do not count. A loss that is neither changes nothing, and neither does a round in
  /// which fewer than two members have one.
  void update(std::span<const double> losses, double influence = 1.0) noexcept;
  /// Takes a round of a source that may err or lie. importance: 0 to 1.
  void hear(std::span<const double> losses, double influence = 1.0,
            double importance = 1.0) noexcept;
  /// Lets a member that returns do so by one round: it is known to be right, without a label.
  void prove(std::size_t member) noexcept;

  /// Which members sleep; false, with nothing changed, where none would be awake.
  bool set_asleep(std::span<const bool> asleep) noexcept;
  /// Has an awake member return to its share of before: what has cost it that is healed.
  void restore(std::size_t member) noexcept;
  /// Bounds a member's weight; 1: no bound.
  void set_cap(std::size_t member, double most) noexcept;
  /// Gives a member the weight of another, say a predecessor's; the rest in proportion.
  void set_weight(std::size_t member, double weight) noexcept;

  /// Returns the same for other seats: places[i] says which member of now sits in seat i, -1 that
  /// it is a new one, which begins with an even share. What the others had keeps its proportions;
  /// sleep, caps and returns go with their member. places: 1 to 16, none twice; `floor` must fit
  /// them.
  FixedShare seated(std::span<const int> places) const;

  std::span<const double> weights() const noexcept { return {weights_.data(), members_}; }
  double weight(std::size_t member) const noexcept { return weights_[member]; }
  bool is_asleep(std::size_t member) const noexcept { return parts_[member].is_asleep; }
  bool is_returning(std::size_t member) const noexcept { return parts_[member].returning > 0; }
  double cap(std::size_t member) const noexcept { return parts_[member].cap; }
  /// The share that a sleeper, or a member that returns, goes back to.
  double past(std::size_t member) const noexcept { return parts_[member].past; }
  std::size_t members() const noexcept { return members_; }
  double learning_rate() const noexcept { return learning_rate_; }
  double floor() const noexcept { return floor_; }
  std::uint64_t rounds() const noexcept { return rounds_; }
  /// Switching rates, and what each of them weighs by now.
  std::span<const double> rates() const noexcept { return {rates_.data(), rate_count_}; }
  std::array<double, kMostRates> rate_weights() const noexcept;
  /// Loss of the mixture of all rounds so far: the sum of -log sum w e^(-h l), over h.
  double mixture_loss() const noexcept { return mixture_loss_; }

  /// Another number whenever weights() may have changed.
  std::uint64_t version() const noexcept { return version_; }

  /// The most by which mixture_loss() exceeds the loss of any sequence of members with so many
  /// switches in so many rounds, by the best of the rates.
  double bound(std::uint64_t rounds, std::uint64_t switches) const noexcept;

  std::vector<std::byte> state() const;
  static FixedShare from_state(std::span<const std::byte> blob);
  std::size_t memory_bytes() const noexcept { return sizeof(*this); }

 private:
  struct Part {
    double past = 0.0;
    double excess = 0.0;  // of its losses over the mixture's, since it returns
    double cap = 1.0;
    std::uint32_t returning = 0;  // rounds that are left
    bool is_asleep = false;
  };
  using Row = std::array<double, kMostMembers>;
  /// One mixture.
  struct Mixture {
    std::array<double, kMostRates> log_rates{};  // what each rate weighs
    std::array<Row, kMostRates> logs{};          // of each member's weight, by rate
  };
  struct Round {
    std::array<bool, kMostMembers> reports{};
    std::size_t count = 0;
  };

  FixedShare() = default;
  std::size_t awake() const noexcept;
  Round read(std::span<const double> losses, double influence) const noexcept;
  double follow(Mixture& mixture, std::span<const double> losses, const Round& round,
                double influence) noexcept;
  void pull_back(Row& linear, double strength) const noexcept;
  void pull_back(Mixture& mixture, double strength) noexcept;
  void doubt(std::span<const double> losses, const Round& round, double influence,
             double importance) noexcept;
  void forget_doubts(std::size_t member) noexcept;
  void end_round(std::span<const double> losses, const Round& round, double influence,
                 double gain) noexcept;
  void pin(Mixture& mixture, std::size_t member, double weight) noexcept;
  void pin(std::size_t member, double weight) noexcept;
  void store(Mixture& mixture, std::size_t rate, const Row& linear) noexcept;
  Row mixed(const Mixture& mixture) const noexcept;
  Row settled(const Row& raw, const Row& least, const Row& most) const noexcept;
  void publish() noexcept;

  std::size_t members_ = 0;
  std::size_t rate_count_ = 0;
  double learning_rate_ = 0.0;
  double floor_ = 0.0;
  double mixture_loss_ = 0.0;
  std::uint64_t rounds_ = 0;
  std::uint64_t version_ = 0;
  std::array<double, kMostRates> rates_{};
  Mixture learned_{};
  Mixture heard_{};                         // what was learned as well
  std::array<Row, kMostMembers> excess_{};  // of the first one's losses over the second's
  std::array<Part, kMostMembers> parts_{};
  Row weights_{};
};

}  // namespace selfheal
