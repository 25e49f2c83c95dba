#include "selfheal/detect/onset_tracker.hpp"

#include <cmath>

namespace selfheal {

void OnsetTracker::restart(std::uint64_t index) noexcept {
  for (auto& level : marks_) level[0] = {0.0, index};
  sum_ = 0.0;
  squares_ = 0.0;
  count_ = 0;
}

// ratio(samples before, samples since, sum before, sum since) gives the log likelihood ratio and
// the shift; a negative ratio is no candidate.
template <typename Ratio>
Onset OnsetTracker::best(Ratio&& ratio) const noexcept {
  struct Candidate {
    double ratio;
    std::int64_t next;
    std::int64_t older;  // the mark before it
    double drop;
  };
  std::array<Candidate, kLevels * kSlots> candidates;
  std::size_t held = 0;
  Onset onset;
  double top = 0.0;
  for (std::size_t level = 0; level < kLevels; ++level) {
    const std::uint64_t latest = count_ >> level;
    const std::uint64_t marks = std::min<std::uint64_t>(latest + 1, kSlots);
    std::int64_t older = -1;
    for (std::uint64_t i = latest + 1 - marks; i <= latest; ++i) {
      const Mark& mark = marks_[level][i % kSlots];
      const auto next = static_cast<std::int64_t>(mark.next);
      const std::uint64_t before = i << level;
      if (before >= count_) break;
      double shift = 0.0;
      const double found = ratio(static_cast<double>(before), static_cast<double>(count_ - before),
                                 mark.sum, sum_ - mark.sum, shift);
      candidates[held++] = {found, next, older < 0 ? next : older + 1,
                            before == 0 ? kDropAtStart : kDrop};
      older = next;
      if (found > top) {
        top = found;
        onset.estimate = next;
        onset.shift = shift;
      }
    }
  }
  onset.earliest = onset.estimate;
  for (std::size_t i = 0; i < held; ++i) {
    const Candidate& candidate = candidates[i];
    if (candidate.ratio > 0.0 && candidate.ratio >= top - candidate.drop) {
      onset.earliest = std::min(onset.earliest, candidate.older);
    }
  }
  return onset;
}

Onset OnsetTracker::since_standard(int direction) const noexcept {
  return best([direction](double, double since, double, double sum, double& shift) {
    if (static_cast<double>(direction) * sum < 0.0) return -1.0;
    shift = sum / since;
    return 0.5 * sum * shift;
  });
}

Onset OnsetTracker::since_unknown(int direction) const noexcept {
  const auto n = static_cast<double>(count_);
  const double all = squares_ - sum_ * sum_ / n;
  return best([&](double before, double since, double sum_before, double sum, double& shift) {
    if (before < 1.0 || !(all > 0.0)) return -1.0;
    const double difference = sum / since - sum_before / before;
    if (static_cast<double>(direction) * difference < 0.0) return -1.0;
    const double between = difference * difference * before * since / n;
    const double within = std::max(all - between, 1e-12 * all);
    shift = difference / std::sqrt(within / n);
    return 0.5 * n * std::log(all / within);
  });
}

void OnsetTracker::write(StateWriter& writer) const {
  writer.f64(sum_);
  writer.f64(squares_);
  writer.u64(count_);
  for (std::size_t level = 0; level < kLevels; ++level) {
    const std::uint64_t latest = count_ >> level;
    const std::uint64_t marks = std::min<std::uint64_t>(latest + 1, kSlots);
    for (std::uint64_t i = latest + 1 - marks; i <= latest; ++i) {
      writer.f64(marks_[level][i % kSlots].sum);
      writer.u64(marks_[level][i % kSlots].next);
    }
  }
}

void OnsetTracker::read(StateReader& reader) {
  sum_ = reader.f64();
  squares_ = reader.f64();
  count_ = reader.u64();
  for (std::size_t level = 0; level < kLevels; ++level) {
    const std::uint64_t latest = count_ >> level;
    const std::uint64_t marks = std::min<std::uint64_t>(latest + 1, kSlots);
    for (std::uint64_t i = latest + 1 - marks; i <= latest; ++i) {
      Mark& mark = marks_[level][i % kSlots];
      mark.sum = reader.f64();
      mark.next = reader.u64();
    }
  }
}

}  // namespace selfheal
