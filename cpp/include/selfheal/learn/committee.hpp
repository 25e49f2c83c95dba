#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/detect/count_chart.hpp"
#include "selfheal/learn/fixed_share.hpp"

namespace selfheal {

/// One answer of a few members, from theirs: calibrated probabilities are averaged by weight, and
/// inputs on which members part are counted.
///
/// A member's probabilities p become p^(1/T) / sum p^(1/T) (temperature scaling, Guo et al. 2017);
/// logits are divided by T before their softmax. A probability below half a step of a quantised
/// output counts as half a step. Values of a model without classes are averaged as they are.
///
/// The latest answers are kept, so that a label that comes later is a loss of each member then:
///
///     loss = log((1 + c) / (p[label] + c)) / log((1 + c) / c),   c = 1 / (e - 1)
///
/// for classes: 0 for a sure and right answer, 1 for a probability of 0. With the learning rate 1 a
/// label moves the odds of two members by at most e, and e^-loss is linear, and so concave, in p.
/// For values: the squared distance over the square of `reach`, at most 1; with the learning rate
/// 1/2 e^(-loss / 2) is concave where distances stay within reach.
///
/// Fixed memory: memory_bytes(). combine and its kin allocate nothing and throw nothing. One
/// object, one thread.
class Committee {
 public:
  static constexpr double kMostWidth = 65536;

  enum class Combine : std::uint8_t { kMean, kVote, kBest };
  enum class Scores : std::uint8_t { kProbabilities, kLogits, kSigmoid, kValues };
  enum class Number : std::uint8_t { kFloat32, kInt8, kUint8, kInt16 };

  /// What a member's raw output is.
  struct Reader {
    Scores scores = Scores::kProbabilities;
    Number raw = Number::kFloat32;
    double scale = 1.0;
    std::int32_t zero_point = 0;
    double temperature = 1.0;  ///< more than 0
  };
  /// A member's answer.
  struct Answer {
    const void* data = nullptr;  ///< null: none
    bool is_real = false;        ///< float32, whatever the raw type is
    bool is_trusted = false;
    std::int64_t id = -1;  ///< of the member's own
  };
  /// What all of them come to.
  struct Verdict {
    std::int64_t label = -1;  ///< -1: none
    double confidence = 0.0;
    bool is_trusted = false;  ///< those that are trusted weigh half, and alone would say the same
    bool is_parted = false;   ///< two that are awake name different classes
    bool is_alarm = false;    ///< they have parted more often than the chart allows
  };

  /// width: of classes, or values of an answer. capacity: answers that are kept.
  Committee(std::size_t members, std::size_t width, std::size_t capacity, Combine combine,
            bool has_classes);

  /// Says how to read a member; from now on.
  void set_reader(std::size_t member, const Reader& reader);
  /// Distance of values that counts as a loss of 1.
  void set_reach(double reach);
  /// From now on two that are awake part in a share of the inputs; an alarm comes after
  /// `interval` of them on average, if there is no change. memory: correlation of one parting with
  /// the next. False, and no chart, where the share is too large for one, or 0.
  bool watch(double share, double memory, double interval) noexcept;
  void watch_nothing() noexcept { chart_ = {}; }

  /// Takes the answers to one input: as many as there are members. weights: of those.
  Verdict combine(std::span<const Answer> answers, std::span<const double> weights) noexcept;
  /// The answer after combine(): probabilities, or values.
  std::span<const float> combined() const noexcept { return {combined_.data(), width_}; }

  /// How many answers there were.
  std::uint64_t number() const noexcept { return number_; }
  bool holds(std::uint64_t number) const noexcept {
    return number >= 1 && number <= number_ && number_ - number < capacity_;
  }
  /// Losses of a kept answer, NaN for members that gave none; false where there is no such answer.
  bool losses_of_class(std::uint64_t number, std::size_t label,
                       std::span<double> losses) const noexcept;
  bool losses_of_values(std::uint64_t number, std::span<const float> target,
                        std::span<double> losses) const noexcept;
  /// As if the label were known that it is not the one: what was answered is wrong.
  bool losses_of_wrong(std::uint64_t number, std::size_t answered,
                       std::span<double> losses) const noexcept;
  /// A member's probabilities, or values, in a kept answer; empty without.
  std::span<const float> kept(std::uint64_t number, std::size_t member) const noexcept;
  /// Largest probability's class of a member in a kept answer; -1 without.
  std::int64_t kept_label(std::uint64_t number, std::size_t member) const noexcept;
  /// The member's own id of its answer; -1 without.
  std::int64_t kept_id(std::uint64_t number, std::size_t member) const noexcept;
  /// What was answered then; -1 for none.
  std::int64_t kept_verdict(std::uint64_t number) const noexcept;
  bool was_parted(std::uint64_t number) const noexcept;

  static double class_loss(double probability) noexcept;

  std::size_t members() const noexcept { return members_; }
  std::size_t width() const noexcept { return width_; }
  std::size_t capacity() const noexcept { return capacity_; }
  bool has_classes() const noexcept { return has_classes_; }
  std::uint64_t partings() const noexcept { return partings_; }
  /// Takes note of a label; returns what it counts for, 0 to 1: how often members part in the
  /// latest answers (some 16), against how often in the latest ones that labels came of. So labels
  /// of chosen answers do not make partings more than they are.
  double importance(bool has_parted) noexcept;
  const CountChart& chart() const noexcept { return chart_; }
  std::size_t memory_bytes() const noexcept;

 private:
  /// Where an answer's row is kept.
  std::size_t place(std::uint64_t number) const noexcept {
    return static_cast<std::size_t>(number % capacity_);
  }
  static constexpr std::size_t kLevels = 256;
  struct Row {
    std::uint64_t number = 0;
    std::int64_t verdict = -1;
    bool is_parted = false;
    std::array<std::int32_t, FixedShare::kMostMembers> labels{};  // -1: no answer
    std::array<std::int64_t, FixedShare::kMostMembers> ids{};
  };

  bool read(std::size_t member, const Answer& answer, float* out) const noexcept;
  void look_up(std::size_t member, const Answer& answer, float* out) const noexcept;
  static float value_of(const Reader& reader, const Answer& answer, std::size_t index) noexcept;
  bool count(bool is_parted) noexcept;
  std::int64_t mix(std::span<const double> weights, const Row& row, const float* rows,
                   std::uint32_t of, std::span<float> out) const noexcept;
  const Row* find(std::uint64_t number) const noexcept;
  static double loss_of_none(const Row& row, std::size_t member) noexcept;
  const float* values(const Row& row, std::size_t member) const noexcept;

  std::size_t members_;
  std::size_t width_;
  std::size_t stride_;  // width in whole fours; what is behind the values is 0
  std::size_t capacity_;
  Combine combine_;
  bool has_classes_;
  double reach_ = 1.0;
  std::uint64_t number_ = 0;
  std::uint64_t partings_ = 0;
  double parting_ = 0.0;       // share in the latest answers
  double told_parting_ = 0.0;  // in those that labels came of
  CountChart chart_{};
  std::uint32_t level_ = 0;
  bool was_parted_ = false;
  std::vector<Reader> readers_;
  std::vector<float> tables_;  // of quantised 8-bit outputs: members x levels
  std::vector<Row> rows_;
  std::vector<float> kept_;  // capacity x members x stride
  std::vector<float> combined_;
  std::vector<float> others_;
};

}  // namespace selfheal
