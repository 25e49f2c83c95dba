#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "selfheal/detect/condition_gate.hpp"
#include "selfheal/measure/channel_numbers.hpp"

namespace selfheal::runtime {

/// Looks at every input that is served: has it come to another condition that a repair is known
/// for? Of the latest inputs since reset(), at most ConditionGate::kStretch.
///
/// Takes what ChannelNumbers takes, and a pass over the stretch for each rival. Memory fixed at
/// construction.
class ConditionWatch {
 public:
  /// type: of the model's first input. step: every so many numbers of an input are looked at; the
  /// gate is made for these. Throws std::invalid_argument.
  ConditionWatch(ChannelNumbers numbers, std::shared_ptr<const ConditionGate> gate,
                 ElementType type, std::size_t step);

  ElementType type() const noexcept { return type_; }
  /// Of one input.
  std::size_t elements() const noexcept { return numbers_.elements(); }
  std::size_t nbytes() const noexcept;
  /// Takes the next input.
  void take(const void* input) noexcept;
  /// The rival that inputs have come to, -1 for none.
  int to() const noexcept { return to_; }
  /// Begins anew.
  void reset() noexcept;

  std::size_t memory_bytes() const noexcept;

 private:
  ChannelNumbers numbers_;
  std::shared_ptr<const ConditionGate> gate_;
  ElementType type_;
  std::size_t step_;
  std::size_t first_ = 0;  // of the stretch, in what holds twice as many
  std::size_t count_ = 0;
  int to_ = -1;
  std::vector<double> all_;                // numbers of one input
  std::vector<double> rows_;               // those that are looked at, of each input
  std::vector<std::vector<double>> logs_;  // of each rival
  std::vector<const double*> stretch_;     // where the stretch begins in each of them
};

}  // namespace selfheal::runtime
