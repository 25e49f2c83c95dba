#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// Mean and variance of all samples (window 0) or of the last `window` ones.
///
/// Running: Welford's recurrence (1962): n += 1; d = x - m; m += d / n; s += d * (x - m).
/// Windowed: nothing is ever subtracted, so a huge value leaves no trace once it has left. The
/// window is kept as an older and a newer part: of the newer part the running moments, of the older
/// part those of every suffix; the answer is the merge of the two (Chan, Golub and LeVeque, 1983).
/// When the older part is used up, suffixes are computed anew.
///
/// NaN, infinities and values beyond +-1e150 (whose square overflows) are skipped, counted, and
/// take no place in the window.
///
/// update: O(1); windowed: O(1) on average, O(window) once every `window` samples.
/// Bytes: 24 * window, allocated at construction. One object, one thread.
class Moments {
 public:
  static constexpr std::size_t kMaxWindow = std::size_t{1} << 26;
  static constexpr double kLargest = 1e150;

  /// window: samples, 1 to kMaxWindow; 0: all.
  explicit Moments(std::uint64_t window = 0);

  void update(double x) noexcept;
  template <typename T>
  void update_many(std::span<const T> samples) noexcept {
    for (const T x : samples) update(static_cast<double>(x));
  }

  std::size_t window() const noexcept { return window_; }
  /// Samples that the moments are over: at most `window` in the windowed form.
  std::uint64_t count() const noexcept { return older_count() + newer_.count; }
  /// Samples skipped since construction or reset().
  std::uint64_t skipped() const noexcept { return skipped_; }
  /// NaN without a sample.
  double mean() const noexcept;
  /// Sample variance, divided by count - 1; NaN with fewer than two samples.
  double variance() const noexcept;
  double std() const noexcept;

  void reset() noexcept;
  std::size_t memory_bytes() const noexcept;

  std::vector<std::byte> state() const;
  /// most_bytes: what the object may take beside four times its state.
  static Moments from_state(std::span<const std::byte> blob, std::size_t most_bytes = kStateBytes);

 private:
  struct Part {
    std::uint64_t count = 0;
    double mean = 0.0;
    double squares = 0.0;  // sum of squared deviations from the mean

    void add(double x) noexcept;
  };

  static Part merge(const Part& a, const Part& b) noexcept;
  Part total() const noexcept;
  std::uint64_t older_count() const noexcept { return older_end_ - older_begin_; }
  void rebuild_suffixes() noexcept;

  // The window as a queue: samples_[older_begin_ .. older_end_) is the older part, and the newer
  // part fills samples_[0 .. newer_.count), from where older samples have left already.
  std::size_t window_;
  std::vector<double> samples_;
  std::vector<double> suffix_mean_;
  std::vector<double> suffix_squares_;
  std::size_t older_begin_ = 0;
  std::size_t older_end_ = 0;
  Part newer_;
  std::uint64_t skipped_ = 0;
};

}  // namespace selfheal
