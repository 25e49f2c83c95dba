#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/count_chart.hpp"
#include "selfheal/detect/label_reference.hpp"
#include "selfheal/detect/latch.hpp"
#include "selfheal/detect/onset_tracker.hpp"

namespace selfheal {

/// Hears when the mix of predicted classes changes, as when the inputs' classes do (label shift).
///
/// Every class has three counting charts (count_chart.hpp): for three times its odds, for 27 times,
/// and for a third. The promise: the mean number of labels between false alarms of all charts
/// together is at least arl0, for 90 % of calibrations like this one, for labels whose memory is
/// like the calibration's. Each chart has its share of the rate (Bonferroni), and is solved for the
/// worst chain that its counts leave possible: both probabilities together are as far off as one
/// would be in 15 of 100 calibrations over the number of events, in the direction in which the run
/// length falls fastest. A chart that cannot keep its share is left out.
///
/// With a latch a lasting change is told once (Latch), of every class; that other classes have
/// become rarer, while one has become more frequent, is no news.
///
/// update: O(1), about 5 ns: a chart that counts down is brought up to date when its class comes
/// again. change: up to 4,096 steps. Bytes: memory_bytes(), about 10 KiB. Nothing allocates after
/// construction. One object, one thread.
class LabelMix {
 public:
  static constexpr std::size_t kHistory = 4096;  ///< updates among which an onset is sought
  static constexpr std::size_t kCharts = 3;      ///< of an event: up, far up, down
  static constexpr std::size_t kSettled = 64;

  /// What is told of a change.
  struct Change {
    std::int64_t label = LabelReference::kRest;  ///< the class, or the rest
    int direction = 0;                           ///< +1 more often, -1 less often
    double share = 0.0;                          ///< since the onset
    double reference = 0.0;                      ///< in calibration
    double statistic = 0.0;                      ///< over the threshold; >= 1 at an alarm
    /// shift: log of the odds ratio, signed.
    Onset onset;
  };

  /// arl0: updates between false alarms, 10 to 1e15.
  LabelMix(LabelReference reference, double arl0, bool latch = false);

  /// Takes the label of one inference; negative: it has none to be counted. True if a change is
  /// told.
  bool update(std::int64_t label) noexcept;
  /// Whether the last update told a change.
  bool drift_detected() const noexcept { return told_ != kNone; }
  /// Whether a chart alarmed in the last update, held back or not.
  bool is_any_alarmed() const noexcept { return alarmed_ != 0; }
  /// The change that was told in the last update; of the leading chart if there was none.
  Change change() const noexcept;
  /// Whether a change was told that goes on.
  bool is_latched() const noexcept;
  /// Whether the latest kSettled labels look like the reference.
  bool looks_normal() const noexcept;
  /// Takes the mix since the latest change that was told for normal: a reference of as many
  /// samples.
  void accept() noexcept;
  /// Starts all charts at zero; counts, what was accepted, and latches of shifts that go on, stay.
  void restart() noexcept;
  /// Forgets charts, history and latches as well.
  void reset() noexcept;

  const LabelReference& reference() const noexcept { return reference_; }
  double arl0() const noexcept { return arl0_; }
  std::uint64_t count() const noexcept { return count_; }
  std::span<const CountChart, kCharts> charts(std::size_t event) const noexcept {
    return slots_[event].chart;
  }
  std::size_t memory_bytes() const noexcept;

  using History = selfheal::History;
  std::vector<std::byte> state(History history = History::kKept) const;
  static LabelMix from_state(std::span<const std::byte> blob);

 private:
  static constexpr std::size_t kNone = 255;
  static constexpr std::size_t kDown = 2;  // of the charts
  struct Slot {
    std::size_t base = 0;     // the event, or the one that it is the complement of
    std::uint64_t at = 0;     // used_ of the event last, or of the start
    std::uint64_t since = 0;  // used_ at the start
    std::uint64_t seen = 0;   // events since then
    std::array<std::uint32_t, kCharts> level{};
    std::array<CountChart, kCharts> chart{};
  };

  LabelMix() = default;
  void index();
  void solve() noexcept;
  CountChart solve_chart(const LabelReference::Event& event, std::size_t chart,
                         double log_run) const noexcept;
  void begin(Slot& slot) noexcept;
  void hit(std::size_t event, bool goes_on) noexcept;
  void check_absent() noexcept;
  bool tell() noexcept;
  bool is_complement(std::size_t event) const noexcept { return slots_[event].base != event; }
  bool is_event(std::size_t event, std::uint8_t held) const noexcept;
  /// The level of a chart now.
  double level(const Slot& slot, std::size_t chart) const noexcept;
  double statistic(const Slot& slot, std::size_t chart) const noexcept;
  double standard(std::size_t event, double share) const noexcept;
  double sum(std::size_t event) const noexcept;
  double sum(std::size_t event, std::uint64_t samples, double seen) const noexcept;
  void begin_all() noexcept;
  int real_side(std::size_t event, std::size_t chart) const noexcept;
  Change change_of(std::size_t event, std::size_t chart) const noexcept;

  LabelReference reference_;
  double arl0_ = 0.0;
  std::vector<std::uint8_t> event_of_;  // by label
  std::size_t rest_ = kNone;
  std::vector<std::size_t> complements_;  // events that are all but one class
  std::vector<Slot> slots_;
  std::vector<Latch> latches_;
  std::vector<std::uint8_t> history_;
  std::uint64_t count_ = 0;     // updates
  std::uint64_t used_ = 0;      // those with a label
  std::uint64_t deadline_ = 0;  // used_ before which no chart alarms for a class that stays away
  std::uint64_t began_ = 0;     // count_ from which the history is of one piece
  std::uint64_t changed_ = 0;   // count_ at the onset of the latest change that was told
  std::uint64_t alarmed_ = 0;   // events, as bits
  std::uint64_t rising_ = 0;    // events that were told to have become more frequent
  std::size_t last_ = kNone;
  std::size_t told_ = kNone;
  std::size_t told_chart_ = 0;
};

}  // namespace selfheal
