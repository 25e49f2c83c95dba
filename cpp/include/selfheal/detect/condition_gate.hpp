#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace selfheal {

/// Tells whether inputs have come from the condition that is served to one of its rivals.
///
/// For each rival, one direction tells its inputs from those of the condition that is served. The
/// scaled logarithm of an input's likelihood ratio along it is
///
///     factor * clip(row . direction - centre, -3, 3)
///
/// and its sum is let go below zero. Inputs have come to a rival once the sum reaches the height
/// and they look like its examples: the squared distance of their means, in spreads, at most 16 and
/// averaged over the numbers, is at most 0.75^2 + 2 / inputs + 2 / examples. The inputs are those
/// since the sum was zero.
class ConditionGate {
 public:
  static constexpr std::size_t kMostRivals = 16;
  /// The latest inputs that are looked at while a stream goes on.
  static constexpr std::size_t kStretch = 48;

  struct Rival {
    std::vector<double> direction;  ///< one a number, like what follows
    std::vector<double> mean;       ///< of its examples
    std::vector<double> spread;     ///< more than 0
    double centre = 0.0;
    double factor = 1.0;
    std::size_t examples = 1;
  };
  /// What a stretch of inputs says.
  struct Passage {
    int to = -1;           ///< the rival that inputs have come to; -1: none
    bool is_open = false;  ///< whether more inputs may still say that it is one
  };

  /// numbers: of an input, at least 1. rivals: at most 16. Throws std::invalid_argument.
  ConditionGate(std::size_t numbers, std::vector<Rival> rivals, double height);

  std::size_t numbers() const noexcept { return numbers_; }
  std::size_t rivals() const noexcept { return rivals_.size(); }
  /// The logarithm of one input, for a rival.
  double log_ratio(std::size_t rival, std::span<const double> row) const noexcept;
  /// What a stretch says, oldest input first, from its rows (one after the other) and the logs of
  /// each rival. count: inputs, at least 1. asks_if_open: else is_open stays false where none is
  /// reached, which is cheaper.
  Passage judge(std::span<const double> rows, std::span<const double* const> logs,
                std::size_t count, bool asks_if_open) const noexcept;

  /// Inputs of a stream, of so many rows, until they are seen to have come to a rival; 0: never.
  std::size_t first_passage(std::span<const double> rows) const;

  std::size_t memory_bytes() const noexcept;

 private:
  bool is_near(const Rival& rival, std::span<const double> rows, std::size_t count) const noexcept;

  std::size_t numbers_;
  std::vector<Rival> rivals_;
  double height_;
};

}  // namespace selfheal
