#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// When did the change begin? Index of the first changed sample, and how sure that is.
struct Onset {
  /// The start that makes the samples since then most likely; -1 without an answer.
  std::int64_t estimate = -1;
  /// The earliest start whose log likelihood ratio is within OnsetTracker::kDrop of the best: the
  /// true start is not before it in at least 93 % of cases (95 % is aimed at). -1 without an
  /// answer.
  std::int64_t earliest = -1;
  /// Size of the change after `estimate`, signed, in standard deviations.
  double shift = 0.0;
};

/// Remembers cumulative sums at ever sparser distances into the past, in fixed memory.
///
/// Every sample's sum is kept for the last 16 samples, every second one's for the last 32, and so
/// on up to every 2048th for the last 32,768: a start m samples ago is known to within m / 8. With
/// S the sum of the m standardised samples since a start, the log likelihood ratio of "shifted
/// since then, by the most likely amount" is S^2 / 2m; where mean and variance are not known
/// beforehand, it is that of two normal samples with one unknown variance,
/// -n/2 log(1 - r^2), r the correlation of the samples with "before or after".
///
/// The last zero of a CUSUM says too late a start in nine cases of ten at half a standard
/// deviation, and gives no bound (Hinkley 1970 has the likelihood's theory).
///
/// push: O(1), two stores on average, about 2 ns. estimate: O(levels x slots), about 0.5 us.
/// Bytes: sizeof, about 3 KiB; nothing is allocated. One object, one thread.
class OnsetTracker {
 public:
  static constexpr std::size_t kLevels = 12;
  static constexpr std::size_t kSlots = 16;
  /// Levels whose marks a batch leaves to refill(): those finer than kStride samples.
  static constexpr std::size_t kFineLevels = 4;
  static constexpr std::size_t kStride = std::size_t{1} << kFineLevels;
  /// Samples that the fine levels look back.
  static constexpr std::size_t kFineReach = kSlots << (kFineLevels - 1);
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
    const std::uint64_t levels = static_cast<std::uint64_t>(std::countr_zero(count_)) + 1;
    mark(0, levels, index + 1);
  }
  /// push() for kStride samples whose indices follow one another, in about a third of the time.
  /// `ring` holds that of index i at (i % kStride) * distance.
  void push_ring(const double* ring, std::size_t distance, std::uint64_t first_index) noexcept {
    double sums[kStride];
    double sum = sum_;
    const auto ring_at = static_cast<std::size_t>(first_index % kStride);
    const auto slot_at = static_cast<std::size_t>((count_ + 1) % kSlots);
    for (std::size_t i = 0; i < kStride; ++i) {
      sum += ring[(ring_at + i) % kStride * distance];
      sums[i] = sum;
      marks_[0][(slot_at + i) % kSlots] = {sum, first_index + i + 1};
    }
    // Of sixteen counts in a row, every level has as many marks, wherever they begin.
    for (std::size_t level = 1; level < kFineLevels; ++level) {
      const std::size_t apart = std::size_t{1} << level;
      const auto begin = static_cast<std::size_t>(apart - 1 - count_ % apart);
      const auto slot = static_cast<std::size_t>((count_ + begin + 1) >> level);
      for (std::size_t j = 0; j < kStride / apart; ++j) {
        const std::size_t i = begin + j * apart;
        marks_[level][(slot + j) % kSlots] = {sums[i], first_index + i + 1};
      }
    }
    const auto last = static_cast<std::size_t>(kStride - 1 - count_ % kStride);
    const std::uint64_t count = count_ + kStride;
    count_ += last + 1;
    sum_ = sums[last];
    mark(kFineLevels, static_cast<std::uint64_t>(std::countr_zero(count_)) + 1,
         first_index + last + 1);
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
    const std::uint64_t levels = static_cast<std::uint64_t>(std::countr_zero(count_)) + 1;
    mark(kFineLevels, levels, last_index + 1);
  }
  /// push_stride() for `Strides` strides, a power of two, given the sums up to the end of each from
  /// the beginning of the first; count() must be a multiple of kStride. Level by level every mark's
  /// place follows from where the first one is, so little is to be predicted and nothing waits.
  template <std::size_t Strides>
  void push_strides(const double* sums_so_far, std::uint64_t first_index) noexcept {
    constexpr std::size_t kEvery = kFineLevels + std::countr_zero(Strides);
    const auto mark_level = [&](std::size_t level, std::size_t i) {
      const std::uint64_t count = count_ + (i + 1) * kStride;
      marks_[level][(count >> level) % kSlots] = {sum_ + sums_so_far[i],
                                                  first_index + (i + 1) * kStride};
    };
    const std::uint64_t strides = count_ / kStride;
    for (std::size_t level = kFineLevels; level <= kEvery; ++level) {
      const std::size_t step = std::size_t{1} << (level - kFineLevels);
      const std::size_t first = step - 1 - strides % step;
      for (std::size_t j = 0; j < Strides / step; ++j) mark_level(level, first + j * step);
    }
    // One stride at most is marked on the levels above: the one that ends a whole round.
    const std::size_t last = Strides - 1 - strides % Strides;
    const auto levels =
        static_cast<std::size_t>(std::countr_zero(count_ + (last + 1) * kStride)) + 1;
    for (std::size_t level = kEvery + 1; level < std::min(levels, kLevels); ++level) {
      mark_level(level, last);
    }
    sum_ += sums_so_far[Strides - 1];
    count_ += Strides * kStride;
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
      mark(kFineLevels, static_cast<std::uint64_t>(std::countr_zero(count_)) + 1,
           first_index + i + 1);
    }
    sum_ = before + sum_to(taken - 1);
    count_ = count + taken;
  }
  /// As push(), but leaves the fine levels to refill().
  void push_coarse(double x, std::uint64_t index) noexcept {
    sum_ += x;
    ++count_;
    const std::uint64_t levels = static_cast<std::uint64_t>(std::countr_zero(count_)) + 1;
    mark(kFineLevels, levels, index + 1);
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
      const auto levels = static_cast<std::uint64_t>(std::countr_zero(count)) + 1;
      for (std::uint64_t level = 0; level < levels && level < kFineLevels; ++level) {
        marks_[level][(count >> level) % kSlots] = {sum, last_index - taken + i + 2};
      }
    }
  }

  /// Samples since the restart.
  std::uint64_t count() const noexcept { return count_; }

  /// Of samples that had mean 0 and variance 1 before; direction: +1, -1, or 0 for either.
  Onset since_standard(int direction) const noexcept;
  /// Of samples whose mean and variance were not known.
  Onset since_unknown(int direction) const noexcept;

  void write(StateWriter& writer) const;
  void read(StateReader& reader);

 private:
  struct Mark {
    double sum = 0.0;        // of all samples before `next`
    std::uint64_t next = 0;  // index of the first sample after the mark
  };

  void mark(std::uint64_t from, std::uint64_t to, std::uint64_t next) noexcept {
    const std::uint64_t end = std::min<std::uint64_t>(to, kLevels);
    for (std::uint64_t level = from; level < end; ++level) {
      marks_[level][(count_ >> level) % kSlots] = {sum_, next};
    }
  }
  template <typename Ratio>
  Onset best(Ratio&& ratio) const noexcept;

  std::array<std::array<Mark, kSlots>, kLevels> marks_{};
  double sum_ = 0.0;
  double squares_ = 0.0;
  std::uint64_t count_ = 0;
};

}  // namespace selfheal
