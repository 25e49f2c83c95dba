#include "selfheal/reference.hpp"

#include <algorithm>
#include <limits>
#include <numbers>
#include <utility>

#include "selfheal/argument_error.hpp"
#include "selfheal/state_codec.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("REFR");

double normal_cdf(double z) noexcept { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

// Inverse normal cdf for 0 < p <= 0.5: Hastings' approximation (Abramowitz and Stegun 26.2.23),
// then Halley steps on the cdf, each of which triples the number of right digits.
double lower_normal_quantile(double p) noexcept {
  const double t = std::sqrt(-2.0 * std::log(p));
  double z = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                       (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
  for (int i = 0; i < 3; ++i) {
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::numbers::pi);
    const double step = (normal_cdf(z) - p) / density;
    z -= step / (1.0 + 0.5 * z * step);
  }
  return z;
}

double normal_quantile(double p) noexcept {
  if (p == 0.5) return 0.0;
  return p < 0.5 ? lower_normal_quantile(p) : -lower_normal_quantile(1.0 - p);
}

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

}  // namespace

Reference::Reference(std::span<const double> samples) {
  fit(std::vector<double>(samples.begin(), samples.end()));
}

Reference::Reference(std::span<const float> samples) {
  fit(std::vector<double>(samples.begin(), samples.end()));
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
  knots_ = knots.size();
  for (std::size_t i = 0; i < knots_; ++i) {
    // Adding zero turns -0.0 into 0.0, so that states do not depend on the order of samples.
    values_[i] = knots[i].value + 0.0;
    scores_[i] = knots[i].score;
  }
  unit_ = knots_ == 1 ? 0.0 : (highest() - lowest()) / (scores_[knots_ - 1] - scores_[0]);
}

// Written so that an infinite distance gives the bound and a tiny one gives no NaN.
double Reference::beyond(double distance, double extreme_score) const noexcept {
  const double room = kBound - extreme_score;
  return std::min(kBound, extreme_score + room / (room / (distance / unit_) + 1.0));
}

double Reference::score(double x) const noexcept {
  if (std::isnan(x)) return std::numeric_limits<double>::quiet_NaN();
  const std::size_t last = knots_ - 1;
  if (x > values_[last]) return beyond(x - values_[last], scores_[last]);
  if (x < values_[0]) return -beyond(values_[0] - x, -scores_[0]);
  const auto* const begin = values_.data();
  const auto above = static_cast<std::size_t>(std::upper_bound(begin, begin + knots_, x) - begin);
  const std::size_t below = above - 1;
  if (x == values_[below]) return scores_[below];
  const double share = (x - values_[below]) / (values_[above] - values_[below]);
  // Rounding must not lift a value above the knot that follows it.
  return std::min(scores_[above], scores_[below] + share * (scores_[above] - scores_[below]));
}

std::vector<std::byte> Reference::state() const {
  StateWriter writer(kTag, 1);
  writer.u64(count_);
  writer.u64(skipped_);
  writer.f64(unit_);
  writer.u64(knots_);
  for (std::size_t i = 0; i < knots_; ++i) {
    writer.f64(values_[i]);
    writer.f64(scores_[i]);
  }
  return std::move(writer).finish();
}

Reference Reference::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
  Reference reference;
  reference.count_ = reader.u64();
  reference.skipped_ = reader.u64();
  reference.unit_ = reader.f64();
  const std::uint64_t knots = reader.u64();
  StateReader::require(
      knots >= 1 && knots <= kKnots && std::isfinite(reference.unit_) && reference.unit_ >= 0.0,
      "a table out of range");
  reader.require_exactly(knots, 2 * sizeof(double));
  reference.knots_ = static_cast<std::size_t>(knots);
  for (std::size_t i = 0; i < reference.knots_; ++i) {
    const double value = reader.f64();
    const double score = reader.f64();
    const bool rises =
        i == 0 || (value > reference.values_[i - 1] && score > reference.scores_[i - 1]);
    StateReader::require(std::isfinite(value) && std::fabs(score) < kBound + 1e-9 && rises,
                         "a table in disorder");
    reference.values_[i] = value;
    reference.scores_[i] = score;
  }
  reader.finish();
  return reference;
}

}  // namespace selfheal
