#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// When did the change begin? Index of the first changed sample, and how sure that is.
struct Onset {
  /// The start that makes the samples since then most likely; -1 without an answer.
  std::int64_t estimate = -1;
  /// The earliest start whose log likelihood ratio is within OnsetTracker::kDrop of the best: the
  /// true start is not before it in at least 93 % of cases (95 % is aimed at), unless `since_start`
  /// says otherwise. -1 without an answer.
  std::int64_t earliest = -1;
  /// Size of the change after `estimate`, signed, in standard deviations.
  double shift = 0.0;
  /// Whether the data speak for a change no later than where the tracker started: `earliest` is
  /// that start, and what was before it, nothing here remembers.
  bool since_start = false;
  /// Samples from where the tracker started to `estimate`, and their sum.
  std::uint64_t before = 0;
  double sum_before = 0.0;

  /// Samples since `estimate`, if `count` were taken; 0 without an answer.
  std::uint64_t ago(std::uint64_t count) const noexcept {
    return estimate < 0 ? 0 : count - static_cast<std::uint64_t>(estimate);
  }
};

/// Remembers cumulative sums at ever sparser distances into the past, in fixed memory.
///
/// Of the sums after 1, 3, 5, ... samples since the start it keeps the latest 8, of those after 2,
/// 6, 10, ... the latest 8, and so on, in 24 levels, and the start itself: a change m samples ago
/// is known to within m / 8, for m up to 134 million (155 days at ten a second), and an older one
/// is "before that, or since the start". With S the sum of the m standardised samples since a
/// start, the log likelihood ratio of "shifted since then, by the most likely amount" is S^2 / 2m
/// if the mean before is certain, and that of two means if it was estimated; where mean and
/// variance are not known beforehand, it is that of two normal samples with one unknown variance,
/// -n/2 log(1 - r^2), r the correlation of the samples with "before or after".
///
/// The last zero of a CUSUM says too late a start in nine cases of ten at half a standard
/// deviation, and gives no bound (Hinkley 1970 has the likelihood's theory).
///
/// push: O(1), one store, about 2 ns. estimate: O(levels x slots), about 2 us. Bytes: sizeof, about
/// 3 KiB; nothing is allocated. One object, one thread.
class OnsetTracker {
 public:
  static constexpr std::size_t kLevels = 24;
  static constexpr std::size_t kSlots = 8;
  /// Levels whose marks a batch leaves to refill(): those finer than kStride samples.
  static constexpr std::size_t kFineLevels = 4;
  static constexpr std::size_t kStride = std::size_t{1} << kFineLevels;
  /// Samples that the fine levels look back.
  static constexpr std::size_t kFineReach = kSlots << kFineLevels;
  /// How far below the largest likelihood a start may lie and still count for the bound.
  static constexpr double kDrop = 3.0;
  /// The same for where the tracker started: after an alarm a change often goes on, and no mark
  /// before it makes the bound wider.
  static constexpr double kDropAtStart = 4.5;

  OnsetTracker() noexcept { restart(0); }

  /// Forgets everything; the next sample has index `index`.
  void restart(std::uint64_t index) noexcept;

  /// Takes the sample with this index. Samples that were skipped leave a gap in the indices.
  void push(double x, std::uint64_t index) noexcept {
    sum_ += x;
    ++count_;
    mark(index + 1);
  }
  /// push() for kStride samples whose indices follow one another, in about a third of the time.
  /// `ring` holds that of index i at (i % kStride) * distance.
  void push_ring(const double* ring, std::size_t distance, std::uint64_t first_index) noexcept {
    double sums[kStride];
    double sum = sum_;
    const auto ring_at = static_cast<std::size_t>(first_index % kStride);
    for (std::size_t i = 0; i < kStride; ++i) {
      sum += ring[(ring_at + i) % kStride * distance];
      sums[i] = sum;
    }
    // Of sixteen counts in a row, every level has as many marks, wherever they begin.
    for (std::size_t level = 0; level < kFineLevels; ++level) {
      const std::size_t apart = std::size_t{2} << level;
      const auto begin = static_cast<std::size_t>((apart / 2 + apart - 1 - count_ % apart) % apart);
      const auto slot = static_cast<std::size_t>((count_ + begin + 1) >> (level + 1));
      for (std::size_t j = 0; j < kStride / apart; ++j) {
        const std::size_t i = begin + j * apart;
        marks_[level][(slot + j) % kSlots] = {sums[i], first_index + i + 1};
      }
    }
    const auto last = static_cast<std::size_t>(kStride - 1 - count_ % kStride);
    const std::uint64_t count = count_ + kStride;
    count_ += last + 1;
    sum_ = sums[last];
    mark(first_index + last + 1);
    count_ = count;
    sum_ = sum;
  }
  /// The same where since_unknown() is to be asked, which needs the sum of squares as well.
  void push_unknown(double x, std::uint64_t index) noexcept {
    squares_ += x * x;
    push(x, index);
  }
  /// Takes kStride samples at once, given their sum. count() must be a multiple of kStride, and
  /// refill() must follow before anything is asked.
  void push_stride(double sum, std::uint64_t last_index) noexcept {
    sum_ += sum;
    count_ += kStride;
    mark(last_index + 1);
  }
  /// push_stride() for `Strides` strides, a power of two, given the sums up to the end of each from
  /// the beginning of the first; count() must be a multiple of kStride. Level by level every mark's
  /// place follows from where the first one is, so little is to be predicted and nothing waits.
  template <std::size_t Strides>
  void push_strides(const double* sums_so_far, std::uint64_t first_index) noexcept {
    constexpr std::size_t kEvery = kFineLevels + std::countr_zero(Strides);
    const std::uint64_t strides = count_ / kStride;
    const double before = sum_;
    const std::uint64_t count = count_;
    for (std::size_t level = kFineLevels; level < kEvery; ++level) {
      const std::size_t step = std::size_t{1} << (level - kFineLevels);
      const auto first =
          static_cast<std::size_t>((3 * step - 1 - strides % (2 * step)) % (2 * step));
      const auto slot = static_cast<std::size_t>((strides + first + 1) / (2 * step));
      for (std::size_t j = 0; j < Strides / (2 * step); ++j) {
        const std::size_t i = first + 2 * j * step;
        marks_[level][(slot + j) % kSlots] = {before + sums_so_far[i],
                                              first_index + (i + 1) * kStride};
      }
    }
    // One stride is marked on the levels above: the one that ends a whole round.
    const auto last = static_cast<std::size_t>(Strides - 1 - strides % Strides);
    count_ = count + (last + 1) * kStride;
    sum_ = before + sums_so_far[last];
    mark(first_index + (last + 1) * kStride);
    sum_ = before + sums_so_far[Strides - 1];
    count_ = count + Strides * kStride;
  }
  /// Takes `taken` samples at once, at least one and none skipped, the first of index
  /// `first_index`; sum_to(i) gives the sum of samples 0 to i. Leaves the fine levels to refill().
  template <typename SumTo>
  void push_run(SumTo&& sum_to, std::size_t taken, std::uint64_t first_index) noexcept {
    const double before = sum_;
    const std::uint64_t count = count_;
    for (std::size_t i = kStride - 1 - count % kStride; i < taken; i += kStride) {
      sum_ = before + sum_to(i);
      count_ = count + i + 1;
      mark(first_index + i + 1);
    }
    sum_ = before + sum_to(taken - 1);
    count_ = count + taken;
  }
  /// As push(), but leaves the fine levels to refill().
  void push_coarse(double x, std::uint64_t index) noexcept {
    sum_ += x;
    ++count_;
    if (count_ % kStride == 0) mark(index + 1);
  }
  /// Makes up for the fine marks: `sample(i)` for i = 0 .. taken - 1 gives the latest samples, none
  /// of them skipped, the last of index `last_index`.
  template <typename Sample>
  void refill(Sample&& sample, std::size_t taken, std::uint64_t last_index) noexcept {
    double back = 0.0;
    for (std::size_t i = 0; i < taken; ++i) back += sample(i);
    double sum = sum_ - back;
    for (std::size_t i = 0; i < taken; ++i) {
      sum += sample(i);
      const std::uint64_t count = count_ - taken + i + 1;
      const auto level = static_cast<std::size_t>(std::countr_zero(count));
      if (level < kFineLevels)
        marks_[level][slot(level, count)] = {sum, last_index - taken + i + 2};
    }
  }

  /// Samples since the restart.
  std::uint64_t count() const noexcept { return count_; }
  /// And their sum.
  double sum() const noexcept { return sum_; }

  /// Of samples that had mean 0 and variance 1 before; direction: +1, -1, or 0 for either.
  /// known: how many samples that mean was estimated from, infinite if it is certain. They count as
  /// samples before the start: what the calibration was wrong by is no change, however long it goes
  /// on.
  Onset since_standard(int direction,
                       double known = std::numeric_limits<double>::infinity()) const noexcept;
  /// Of samples whose mean and variance were not known.
  Onset since_unknown(int direction) const noexcept;

  /// Forgets the marks of the fine levels: what was taken is known in steps of kStride samples.
  void forget_fine() noexcept {
    for (std::size_t level = 0; level < kFineLevels; ++level) marks_[level].fill({});
  }
  void write(StateWriter& writer) const;
  /// Of a payload of version 1 or 2; the holder says which.
  void read(StateReader& reader);

 private:
  struct Mark {
    double sum = 0.0;        // of all samples before `next`
    std::uint64_t next = 0;  // index of the first sample after the mark; 0: there is no mark
  };

  static std::size_t slot(std::size_t level, std::uint64_t count) noexcept {
    return static_cast<std::size_t>(count >> (level + 1)) % kSlots;
  }
  // After count_ samples, on the level of the largest power of two that divides it.
  void mark(std::uint64_t next) noexcept {
    const auto level = static_cast<std::size_t>(std::countr_zero(count_));
    if (level < kLevels) [[likely]]
      marks_[level][slot(level, count_)] = {sum_, next};
  }
  void read_first(StateReader& reader);
  template <typename Ratio>
  Onset best(Ratio&& ratio) const noexcept;

  std::array<std::array<Mark, kSlots>, kLevels> marks_{};
  double sum_ = 0.0;
  double squares_ = 0.0;
  std::uint64_t count_ = 0;
  std::uint64_t start_ = 0;
};

}  // namespace selfheal
