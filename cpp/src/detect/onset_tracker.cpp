#include "selfheal/detect/onset_tracker.hpp"

#include <algorithm>
#include <cmath>

namespace selfheal {

void OnsetTracker::restart(std::uint64_t index) noexcept {
  for (auto& level : marks_) level.fill({});
  sum_ = 0.0;
  squares_ = 0.0;
  count_ = 0;
  start_ = index;
}

// ratio(samples before, samples since, sum before, sum since) gives the log likelihood ratio and
// the shift; a negative ratio is no candidate.
template <typename Ratio>
Onset OnsetTracker::best(Ratio&& ratio) const noexcept {
  struct Candidate {
    std::uint64_t before;  // samples
    std::uint64_t next;
    double sum;
  };
  std::array<Candidate, kLevels * kSlots + 1> candidates;
  candidates[0] = {0, start_, 0.0};
  std::size_t held = 1;
  for (std::size_t level = 0; level < kLevels; ++level) {
    const std::uint64_t half = std::uint64_t{1} << level;
    if (count_ <= half) break;
    const std::uint64_t latest = (count_ - half) >> (level + 1);
    const std::uint64_t oldest = latest < kSlots ? 0 : latest + 1 - kSlots;
    for (std::uint64_t i = oldest; i <= latest; ++i) {
      const Mark& mark = marks_[level][i % kSlots];
      const std::uint64_t before = (i << (level + 1)) + half;
      if (before < count_ && mark.next != 0) candidates[held++] = {before, mark.next, mark.sum};
    }
  }
  std::sort(candidates.begin() + 1, candidates.begin() + static_cast<std::ptrdiff_t>(held),
            [](const Candidate& a, const Candidate& b) { return a.before < b.before; });
  std::array<double, kLevels * kSlots + 1> found;
  Onset onset;
  double top = 0.0;
  for (std::size_t i = 0; i < held; ++i) {
    const Candidate& at = candidates[i];
    double shift = 0.0;
    found[i] = ratio(static_cast<double>(at.before), static_cast<double>(count_ - at.before),
                     at.sum, sum_ - at.sum, shift);
    if (found[i] > top) {
      top = found[i];
      onset.estimate = static_cast<std::int64_t>(at.next);
      onset.shift = shift;
      onset.before = at.before;
      onset.sum_before = at.sum;
    }
  }
  onset.earliest = onset.estimate;
  for (std::size_t i = 0; i < held && onset.estimate >= 0; ++i) {
    const double drop = i == 0 ? kDropAtStart : kDrop;
    if (!(found[i] > 0.0 && found[i] >= top - drop)) continue;
    // The change may lie anywhere after the mark before.
    const std::uint64_t bound = i == 0 ? start_ : candidates[i - 1].next + 1;
    onset.earliest = std::min(onset.earliest, static_cast<std::int64_t>(bound));
    onset.since_start = i == 0;
    break;
  }
  return onset;
}

Onset OnsetTracker::since_standard(int direction, double known) const noexcept {
  return best([=](double before, double since, double sum_before, double sum, double& shift) {
    shift = sum / since - sum_before / (before + known);
    if (static_cast<double>(direction) * shift < 0.0) return -1.0;
    return 0.5 * shift * shift * since / (1.0 + since / (before + known));
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
  writer.u64(start_);
  for (const auto& level : marks_) {
    for (const Mark& mark : level) {
      writer.f64(mark.sum);
      writer.u64(mark.next);
    }
  }
}

void OnsetTracker::read(StateReader& reader) {
  restart(0);
  sum_ = reader.f64();
  squares_ = reader.f64();
  count_ = reader.u64();
  if (reader.version() < 2) return read_first(reader);
  start_ = reader.u64();
  for (auto& level : marks_) {
    for (Mark& mark : level) {
      mark.sum = reader.f64();
      mark.next = reader.u64();
    }
  }
}

// The first version kept the latest 16 sums after 0, 2^level, 2 * 2^level ... samples, on 12
// levels; where it has lost its start, the bound is the first sample of all.
void OnsetTracker::read_first(StateReader& reader) {
  constexpr std::size_t kFirstLevels = 12;
  constexpr std::uint64_t kFirstSlots = 16;
  for (std::size_t first = 0; first < kFirstLevels; ++first) {
    const std::uint64_t latest = count_ >> first;
    const std::uint64_t marks = std::min<std::uint64_t>(latest + 1, kFirstSlots);
    for (std::uint64_t i = latest + 1 - marks; i <= latest; ++i) {
      const double sum = reader.f64();
      const std::uint64_t next = reader.u64();
      const std::uint64_t count = i << first;
      const auto level = static_cast<std::size_t>(std::countr_zero(count));
      if (count == 0) {
        start_ = next;
      } else if (level < kLevels) {
        Mark& held = marks_[level][slot(level, count)];
        if (held.next < next) held = {sum, next};
      }
    }
  }
}

}  // namespace selfheal
