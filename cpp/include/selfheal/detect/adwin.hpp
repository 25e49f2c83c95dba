#pragma once

#include <array>
#include <vector>

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// ADWIN (Bifet and Gavalda 2007): a window that drops its older part when that part's mean
/// differs from the newer part's by more than chance explains.
///
/// The window is an exponential histogram: rows of buckets of 1, 2, 4 ... samples, each with sum
/// and sum of squared deviations. Every `clock` samples all cuts between buckets are tested with
/// the variance bound of the paper's section 4.2, at probability delta each. Alarms and window
/// equal river's, order of operations included; the logarithm is the C library's.
///
/// update: O(1) on average, O(log n) every `clock` samples. Bytes: rows x (max_buckets + 1) x 16,
/// about 4 KiB at max_buckets = 5, and 3 KiB for the onset tracker. The window holds at most 2^40
/// times as many samples as a row has buckets; then it starts anew.
class Adwin : public LearningDetector<Adwin> {
 public:
  static constexpr StateTag kTag = state_tag("ADWN");
  static constexpr bool kRestarts = true;
  static constexpr std::size_t kRows = 40;

  /// delta: 0 to 1, above 0; clock, max_buckets, min_window_length >= 1.
  explicit Adwin(double delta = 0.002, std::uint32_t clock = 32, std::uint32_t max_buckets = 5,
                 std::uint32_t min_window_length = 5, std::uint32_t grace_period = 10,
                 bool track_onset = true, bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static Adwin read(StateReader& reader);

  double delta() const noexcept { return delta_; }
  std::uint32_t clock() const noexcept { return clock_; }
  /// Samples in the window.
  double width() const noexcept { return width_; }
  double total() const noexcept { return total_; }
  /// Sum of squared deviations from the window's mean.
  double variance() const noexcept { return variance_; }
  /// The window's mean; 0 while it is empty.
  double estimation() const noexcept { return width_ == 0.0 ? 0.0 : total_ / width_; }
  double statistic() const noexcept { return estimation(); }
  std::size_t memory_bytes() const noexcept {
    return sizeof *this + tracker_bytes() + buckets_.capacity() * sizeof(Bucket);
  }

 private:
  struct Bucket {
    double total = 0.0;
    double variance = 0.0;
  };

  Bucket* row(std::size_t index) noexcept { return &buckets_[index * (max_buckets_ + 1)]; }
  void append(std::size_t row, double total, double variance) noexcept;
  void drop_first(std::size_t row, std::uint32_t count) noexcept;
  void insert(double x) noexcept;
  void compress() noexcept;
  void delete_oldest() noexcept;
  bool shrink_once() noexcept;
  bool differs(double n0, double n1, double difference, double spread, double prime) const noexcept;

  double delta_;
  std::uint32_t clock_;
  std::uint32_t max_buckets_;
  std::uint32_t min_window_length_;
  std::uint32_t grace_period_;
  std::uint32_t tick_ = 0;
  std::uint32_t rows_ = 1;
  double width_ = 0.0;
  double total_ = 0.0;
  double variance_ = 0.0;
  std::array<std::uint32_t, kRows> held_{};  // buckets in each row
  std::vector<Bucket> buckets_;
};

}  // namespace selfheal
