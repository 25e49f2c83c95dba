#include "selfheal/detect/reference.hpp"

#include <algorithm>
#include <limits>
#include <numbers>
#include <utility>

#include "detect/normal_quantile.hpp"
#include "detect/reference_score.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("REFR");
// 1 knew nothing of far samples in a row, 2 nothing of steadiness.
constexpr std::uint16_t kVersion = 4;

struct Knot {
  double value;
  double score;
};

// Distinct values with the normal score of their mid-rank, both increasing.
std::vector<Knot> mid_rank_scores(const std::vector<double>& sorted) {
  const auto n = static_cast<double>(sorted.size());
  std::vector<Knot> knots;
  for (std::size_t first = 0; first < sorted.size();) {
    std::size_t last = first;
    while (last < sorted.size() && sorted[last] == sorted[first]) ++last;
    const double rank = 0.5 * (static_cast<double>(first) + static_cast<double>(last));
    knots.push_back({sorted[first], normal_quantile(rank / n)});
    first = last;
  }
  return knots;
}

// Those nearest to `wanted` evenly spaced scores; the two extremes are among them.
std::vector<Knot> evenly_spaced(const std::vector<Knot>& all, std::size_t wanted) {
  std::vector<Knot> kept;
  const double low = all.front().score;
  const double step = (all.back().score - low) / static_cast<double>(wanted - 1);
  std::size_t nearest = 0;
  for (std::size_t i = 0; i < wanted; ++i) {
    const double target = low + step * static_cast<double>(i);
    while (nearest + 1 < all.size() &&
           std::fabs(all[nearest + 1].score - target) <= std::fabs(all[nearest].score - target)) {
      ++nearest;
    }
    if (kept.empty() || kept.back().value < all[nearest].value) kept.push_back(all[nearest]);
  }
  return kept;
}

template <typename T>
Preparation prepare(const Reference& reference, std::span<const T> samples, bool whiten) {
  std::vector<double> scores(samples.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto x = static_cast<double>(samples[i]);
    scores[i] = std::isfinite(x) ? reference.score(x) : std::numeric_limits<double>::quiet_NaN();
  }
  return {std::move(scores), reference.count(), reference.table().lowest_score(),
          reference.table().highest_score(), whiten};
}

}  // namespace

Reference::Reference(std::span<const double> samples, bool whiten) : Reference() {
  fit(std::vector<double>(samples.begin(), samples.end()));
  preparation_ = prepare(*this, samples, whiten);
}

Reference::Reference(std::span<const float> samples) : Reference() {
  fit(std::vector<double>(samples.begin(), samples.end()));
  preparation_ = prepare(*this, samples, true);
}

void Reference::fit(std::vector<double> samples) {
  const auto finite_end =
      std::partition(samples.begin(), samples.end(), [](double x) { return std::isfinite(x); });
  skipped_ = static_cast<std::uint64_t>(samples.end() - finite_end);
  samples.erase(finite_end, samples.end());
  if (samples.size() < 2) refuse("samples", "at least 2 finite numbers", samples.size());
  count_ = samples.size();
  std::sort(samples.begin(), samples.end());
  if (!std::isfinite(samples.back() - samples.front())) {
    refuse("samples", "a range below 1.8e308", samples.back() - samples.front());
  }
  std::vector<Knot> knots = mid_rank_scores(samples);
  if (knots.size() > kKnots) knots = evenly_spaced(knots, kKnots);
  table_.knots = knots.size();
  for (std::size_t i = 0; i < table_.knots; ++i) {
    // Adding zero turns -0.0 into 0.0, so that states do not depend on the order of samples.
    table_.values[i] = knots[i].value + 0.0;
    table_.segments[i].score = knots[i].score;
  }
  table_.unit = table_.knots == 1
                    ? 0.0
                    : (highest() - lowest()) / (table_.highest_score() - table_.lowest_score());
  finish_table();
}

Reference Reference::normal(double mean, double std) {
  require_finite("mean", mean);
  require_positive("std", std);
  Reference reference;
  reference.table_.knots = 2;
  reference.table_.segments[0].score = -kBound;
  reference.table_.segments[1].score = kBound;
  reference.table_.values[0] = mean - kBound * std;
  reference.table_.values[1] = mean + kBound * std;
  if (!(reference.table_.values[0] < mean && mean < reference.table_.values[1])) {
    refuse("std", "a number that is not lost beside mean", std);
  }
  reference.table_.unit = std;
  reference.finish_table();
  return reference;
}

void Reference::finish_table() noexcept {
  for (std::size_t i = 0; i + 1 < table_.knots; ++i) {
    const ReferenceTable::Segment& above = table_.segments[i + 1];
    const double slope =
        (above.score - table_.segments[i].score) / (table_.values[i + 1] - table_.values[i]);
    // Between knots that are next to nothing apart it would be infinite.
    table_.segments[i].slope = std::min(slope, std::numeric_limits<double>::max());
  }
  const double highest = table_.highest_score();
  table_.segments[table_.knots - 1].slope = 0.0;
  for (std::size_t i = table_.knots; i <= kKnots; ++i) {
    table_.values[i] = std::numeric_limits<double>::infinity();
    table_.segments[i] = {highest, 0.0};
  }
  for (std::size_t i = 0; i < ReferenceTable::kCoarse; ++i) {
    table_.coarse[i] = table_.values[i * (kKnots / ReferenceTable::kCoarse)];
  }
}

double Reference::score(double x) const noexcept {
  return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : score_of(table_, x);
}

std::vector<std::byte> Reference::state() const {
  StateWriter writer(kTag, kVersion);
  writer.u64(count_);
  writer.u64(skipped_);
  writer.f64(table_.unit);
  writer.u64(table_.knots);
  for (std::size_t i = 0; i < table_.knots; ++i) {
    writer.f64(table_.values[i]);
    writer.f64(table_.segments[i].score);
  }
  preparation_.write(writer);
  return std::move(writer).finish();
}

Reference Reference::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, kVersion);
  Reference reference;
  reference.count_ = reader.u64();
  reference.skipped_ = reader.u64();
  reference.table_.unit = reader.f64();
  const std::uint64_t knots = reader.u64();
  StateReader::require(knots >= 1 && knots <= kKnots && std::isfinite(reference.table_.unit) &&
                           reference.table_.unit >= 0.0,
                       "a table out of range");
  reference.table_.knots = static_cast<std::size_t>(knots);
  for (std::size_t i = 0; i < reference.table_.knots; ++i) {
    const double value = reader.f64();
    const double score = reader.f64();
    const bool rises = i == 0 || (value > reference.table_.values[i - 1] &&
                                  score > reference.table_.segments[i - 1].score);
    StateReader::require(std::isfinite(value) && std::fabs(score) < kBound + 1e-9 && rises,
                         "a table in disorder");
    reference.table_.values[i] = value;
    reference.table_.segments[i].score = score;
  }
  reference.finish_table();
  reference.preparation_ = Preparation::read(reader, reader.version());
  reader.finish();
  return reference;
}

}  // namespace selfheal
