#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "selfheal/base/ring_buffer.hpp"
#include "selfheal/detect/label_mix.hpp"
#include "selfheal/detect/monitor_bank.hpp"

namespace selfheal {

/// Which alarms one inference raised.
struct InferenceAlarms {
  bool bank = false;       ///< signals of the bank: MonitorBank::drift_detected
  bool nonfinite = false;  ///< an input holds NaN or infinity
  bool flat = false;       ///< inputs have lost their spread
  bool repeats = false;    ///< inputs are equal to the bit
  bool frozen = false;     ///< answers are equal to the bit while inputs differ
  bool few = false;        ///< samples of a kind that is rare have become more
  bool label_mix = false;  ///< the mix of predicted classes has changed

  bool any() const noexcept {
    return bank || nonfinite || flat || repeats || frozen || few || label_mix;
  }
};

/// A bank of charts with what needs no chart: inputs that repeat, that are flat, that are no
/// numbers, answers that stay the same; counts of samples of a rare kind; a chart of the mix of
/// predicted classes (LabelMix); and the scores of the latest inferences.
///
/// With a latch what lasts is told once: a shift of a signal (Latch), a run of flat or equal inputs
/// or of equal answers until it ends, values that are no numbers until kSettled inferences had
/// none, a count of a rare kind until it is back at zero. Without, a run
/// that goes on is told again after as many inferences more, and a count begins anew.
///
/// Bytes: memory_bytes(). Nothing allocates after construction. One object, one thread.
class InferenceMonitor {
 public:
  static constexpr std::size_t kWindow = 256;  ///< inferences whose scores are kept
  static constexpr std::uint64_t kInARow = 8;  ///< flat inputs that raise an alarm
  static constexpr std::size_t kSettled = 64;  ///< inferences without alarm that may be trusted
  static constexpr double kSettledMean = 0.5;  ///< four standard errors of a mean of kSettled

  /// The signal `index` is flat below `least`.
  struct Flat {
    std::size_t index;
    double least;
  };

  /// Samples of which the signal `index` lies below `cut` are rare. A Bernoulli CUSUM (Reynolds and
  /// Stoumbos 1999): + rise where a run of them begins, nothing where it goes on, - 1 for any
  /// other, not below 0; alarm above limit.
  struct Few {
    std::size_t index;
    double cut;
    std::uint32_t rise;   ///< 1 to limit
    std::uint32_t limit;  ///< at most 2^20
  };
  /// Where such a count stands.
  struct FewCount {
    std::uint32_t level = 0;
    std::uint64_t since = 0;   ///< count() before the first sample since it was zero
    std::uint64_t begun = 0;   ///< runs since then
    std::uint64_t calm = 0;    ///< samples of another kind since the latest, while level > 0
    bool is_beyond = false;    ///< the latest sample
    bool is_told = false;      ///< in the last update
    bool is_held = false;      ///< told before, and not back at zero
    bool is_accepted = false;  ///< taken for normal: it is told no more
  };

  /// bank: none where nothing can be measured; it has its own latch. max_repeats: equal inputs in
  /// a row that raise an alarm; max_frozen: equal answers in a row to inputs that differ, not
  /// counting inputs that repeat; 0: they say nothing. mix: none for a model without classes; it
  /// has its own latch.
  InferenceMonitor(std::optional<MonitorBank> bank, std::vector<Flat> flat,
                   std::uint64_t max_repeats, std::uint64_t max_frozen = 0, bool latch = false,
                   std::vector<Few> few = {}, std::optional<LabelMix> mix = std::nullopt);

  /// row: one value a signal of the bank. label: negative where there is none; of an input that
  /// repeats, or is no numbers, it does not count.
  InferenceAlarms update(std::span<const double> row, bool repeats_previous,
                         std::uint64_t nonfinite, bool same_answer = false,
                         std::int64_t label = -1) noexcept;

  /// As MonitorBank::prefetch.
  void prefetch() const noexcept {
    if (bank_) bank_->prefetch();
  }

  /// Whether the latest kSettled inferences raised no alarm and look like the reference again.
  bool settled() const noexcept;
  /// Takes every lasting shift that was told for normal (MonitorBank::accept, LabelMix::accept).
  void accept() noexcept;
  /// Forgets charts and history, as after a repair; count() and nonfinite() go on. Where signals
  /// have settled() by themselves, latches stay: a shift too small to matter is not told again.
  void reset() noexcept;

  const MonitorBank* bank() const noexcept { return bank_ ? &*bank_ : nullptr; }
  const LabelMix* label_mix() const noexcept { return mix_ ? &*mix_ : nullptr; }
  const RingBuffer<double>& window() const noexcept { return window_; }
  const InferenceAlarms& alarms() const noexcept { return alarms_; }
  std::size_t signals() const noexcept { return bank_ ? bank_->signals() : 0; }
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t repeats() const noexcept { return repeats_; }
  std::uint64_t flats() const noexcept { return flats_; }
  std::uint64_t max_repeats() const noexcept { return max_repeats_; }
  std::uint64_t frozen() const noexcept { return frozen_; }
  std::uint64_t max_frozen() const noexcept { return max_frozen_; }
  std::uint64_t nonfinite() const noexcept { return nonfinite_; }
  std::uint64_t last_nonfinite() const noexcept { return last_nonfinite_; }
  std::span<const Few> few() const noexcept { return few_; }
  std::span<const FewCount> few_counts() const noexcept { return few_counts_; }
  std::size_t memory_bytes() const noexcept;

  using History = selfheal::History;
  /// The bank, the mix, the window and all counters; what is restored continues bit for bit.
  /// Without history it has none to begin with, settled() waits until there is one again, and a
  /// change within the latest OnsetTracker::kFineReach inferences is dated as MonitorBank says.
  std::vector<std::byte> state(History history = History::kKept) const;
  /// Throws a StateError for a blob that no monitor can have given.
  static InferenceMonitor from_state(std::span<const std::byte> blob);

 private:
  bool is_told(std::uint64_t run, std::uint64_t limit) const noexcept {
    return limit != 0 && run >= limit && (latch_ ? run == limit : run % limit == 0);
  }

  bool take_few(std::span<const double> row) noexcept;

  std::optional<MonitorBank> bank_;
  std::optional<LabelMix> mix_;
  std::vector<Flat> flat_;
  std::vector<Few> few_;
  std::vector<FewCount> few_counts_;
  std::uint64_t max_repeats_;
  std::uint64_t max_frozen_;
  bool latch_;
  RingBuffer<double> window_;
  std::vector<double> scores_;
  InferenceAlarms alarms_;
  std::uint64_t count_ = 0;
  std::uint64_t repeats_ = 0;
  std::uint64_t flats_ = 0;
  std::uint64_t frozen_ = 0;
  std::uint64_t nonfinite_ = 0;
  std::uint64_t last_nonfinite_ = 0;
  std::uint64_t since_nonfinite_ = kSettled;  // at most that
  std::uint64_t since_alarm_ = 0;             // and since what was told has ended
};

}  // namespace selfheal
