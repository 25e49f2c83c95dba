#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/state_codec.hpp"
#include "selfheal/detect/count_chart.hpp"

namespace selfheal {

/// How often a classifier names each class in normal operation, and in what runs.
///
/// Up to 31 classes are counted one by one. Of more, those that come most often and in at least 16
/// runs are, and all others together ("the rest"). What has more than a third of the samples is
/// counted by what is not it as well. A class's samples come as a chain of two states (EventChain);
/// where the classes vary more over 2, 4, 8 ... samples than such chains do, by more than chance
/// has, so much longer is the memory that thresholds are solved for (bunching).
class LabelReference {
 public:
  static constexpr std::size_t kMostClasses = 31;  ///< counted one by one
  static constexpr std::uint64_t kLeastRuns = 16;  ///< of a class, where not all can be
  static constexpr std::size_t kMostEvents = kMostClasses + 4;
  static constexpr double kLeastLabels =
      50.0;  ///< independent ones, that a calibration has to hold

  /// What is counted: one class, the rest, or all that is not the class of the majority.
  struct Event {
    std::int64_t label = kRest;  ///< the class; of the complement: the one that is left out
    bool is_complement = false;
    std::uint64_t count = 0;
    std::uint64_t runs = 0;  ///< that began after something else
  };
  static constexpr std::uint64_t kLeastChanges = 10;  ///< of the class, likewise
  static constexpr std::int64_t kRest = -1;

  /// labels: of the calibration, in the order in which inputs came; negative ones are left out.
  /// classes: 1 to 2^31, what the labels are below. Throws std::invalid_argument for a label
  /// beyond, or without any label. Cost: samples x classes counted, a few times. Allocates: set-up
  /// only.
  LabelReference(std::span<const std::int64_t> labels, std::size_t classes);

  std::size_t classes() const noexcept { return classes_; }
  std::uint64_t samples() const noexcept { return samples_; }
  const std::vector<Event>& events() const noexcept { return events_; }
  double share(const Event& event) const noexcept;
  /// How many times as fast the variance of counts grows as that of chains does; 1 or more.
  double bunching() const noexcept { return bunching_; }
  /// Whether counts vary more the longer they are, up to the longest that can be seen: nothing
  /// says what the mix will be.
  bool wanders() const noexcept { return wanders_; }
  /// How many independent labels would tell as much.
  double independent_labels() const noexcept;
  /// Runs of all classes but the one that has most of them.
  std::uint64_t changes() const noexcept;
  /// Whether a chart can keep a promise on this calibration.
  bool is_supported() const noexcept {
    return !wanders_ && independent_labels() >= kLeastLabels && changes() >= kLeastChanges;
  }
  /// The chain that an event may be at most, or at least: begin and stay within so many standard
  /// deviations (Clopper and Pearson 1934).
  EventChain most(const Event& event, double begin_sd, double stay_sd) const noexcept;
  EventChain least(const Event& event, double begin_sd, double stay_sd) const noexcept;
  EventChain likely(const Event& event) const noexcept;

  std::vector<std::byte> state() const;
  static LabelReference from_state(std::span<const std::byte> blob);

 private:
  friend class LabelMix;
  LabelReference() = default;
  void measure_bunching(std::span<const std::uint8_t> held, std::size_t counted);

  std::size_t classes_ = 0;
  std::uint64_t samples_ = 0;
  double bunching_ = 1.0;
  bool wanders_ = false;
  std::vector<Event> events_;
};

}  // namespace selfheal
