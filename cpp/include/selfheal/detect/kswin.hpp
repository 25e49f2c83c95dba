#pragma once

#include <array>
#include <vector>

#include "selfheal/detect/learning_detector.hpp"

namespace selfheal {

/// KSWIN (Raab, Heusinger and Schleif 2020): a Kolmogorov-Smirnov test between the newest
/// stat_size samples of a window and as many drawn at random from the rest.
///
///     alarm if the exact two-sided p-value <= alpha and the statistic > 0.1
///
/// Alarms equal river's for the same seed: the same Mersenne Twister, the same draws as Python's
/// random.sample, the same order of operations as SciPy's exact p-value.
///
/// A test at every sample at level alpha: with the usual 0.005 it is wrong about every 200 samples
/// times the overlap of windows. update: O(stat_size log stat_size). Bytes: 8 * (window_size + 3 *
/// stat_size) + 2.6 KiB, and 3 KiB for the onset tracker.
class Kswin : public LearningDetector<Kswin> {
 public:
  static constexpr StateTag kTag = state_tag("KSWN");
  static constexpr bool kRestarts = true;

  /// alpha: 0 to 1; 1 <= stat_size <= 10000; window_size from 2 stat_size to 2^24. `seed` starts
  /// the draws anew after every alarm.
  explicit Kswin(double alpha = 0.005, std::uint32_t window_size = 100,
                 std::uint32_t stat_size = 30, std::uint64_t seed = 0, bool track_onset = true,
                 bool latch = false);

  bool take(double x) noexcept;
  void forget() noexcept;
  void write(StateWriter& writer) const;
  static Kswin read(StateReader& reader);

  double alpha() const noexcept { return alpha_; }
  std::uint32_t window_size() const noexcept { return window_size_; }
  std::uint32_t stat_size() const noexcept { return stat_size_; }
  std::uint64_t seed() const noexcept { return seed_; }
  /// Of the latest test; 0 before the first, as river's.
  double p_value() const noexcept { return p_value_; }
  /// The latest Kolmogorov-Smirnov distance, 0 to 1.
  double statistic() const noexcept { return distance_; }
  std::size_t memory_bytes() const noexcept;

 private:
  // MT19937 (Matsumoto and Nishimura 1998), seeded like Python's random.Random(int).
  class Twister {
   public:
    void seed(std::uint64_t value) noexcept;
    std::uint32_t below(std::uint32_t n) noexcept;
    void write(StateWriter& writer) const;
    void read(StateReader& reader);

   private:
    static constexpr std::size_t kWords = 624;
    std::uint32_t next() noexcept;
    std::array<std::uint32_t, kWords> words_{};
    std::uint32_t used_ = kWords;
  };

  // Where sample `index` since the start is kept.
  std::size_t slot(std::uint64_t index) const noexcept {
    return static_cast<std::size_t>(index % window_size_);
  }
  double held(std::size_t age_from_oldest) const noexcept;
  void draw() noexcept;

  double alpha_;
  std::uint32_t window_size_;
  std::uint32_t stat_size_;
  std::uint64_t seed_;
  double p_value_ = 0.0;
  double distance_ = 0.0;
  std::uint64_t total_ = 0;     // samples since the start
  std::vector<double> window_;  // a ring
  std::vector<double> drawn_;
  std::vector<double> newest_;
  std::vector<std::uint32_t> pool_;  // positions not drawn yet, or those drawn
  Twister twister_;
};

}  // namespace selfheal
