#include "selfheal/detect/reference.hpp"

#include <algorithm>
#include <limits>
#include <numbers>
#include <utility>

#include "detect/bunching.hpp"
#include "detect/lundberg.hpp"
#include "detect/reference_score.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("REFR");
constexpr double kLargestPhi = 0.995;

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

struct Spread {
  double mean;
  double variance;
};

Spread spread_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, squares / n};
}

// Over pairs of which neither is NaN; 0 without any spread.
double autocorrelation(const std::vector<double>& values, std::size_t lag) {
  std::vector<double> held = values;
  std::erase_if(held, [](double value) { return std::isnan(value); });
  if (held.size() < lag + 2) return 0.0;
  const Spread spread = spread_of(held);
  double products = 0.0;
  double pairs = 0.0;
  for (std::size_t i = lag; i < values.size(); ++i) {
    if (std::isnan(values[i]) || std::isnan(values[i - lag])) continue;
    products += (values[i] - spread.mean) * (values[i - lag] - spread.mean);
    pairs += 1.0;
  }
  return spread.variance > 0.0 && pairs > 0.0 ? products / pairs / spread.variance : 0.0;
}

}  // namespace

Reference::Reference(std::span<const double> samples) {
  const std::vector<double> copy(samples.begin(), samples.end());
  fit(copy);
  prepare(copy);
}

Reference::Reference(std::span<const float> samples) {
  const std::vector<double> copy(samples.begin(), samples.end());
  fit(copy);
  prepare(copy);
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

void Reference::prepare(const std::vector<double>& samples) {
  limit_ = std::max(table_.highest_score(), -table_.lowest_score());
  limit_ = std::max(limit_, normal_quantile(1.0 - 0.5 / static_cast<double>(count_)));
  const double gap = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> z(samples.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    z[i] = std::isfinite(samples[i]) ? clip(score(samples[i])) : gap;
  }
  const auto n = static_cast<double>(count_);
  const double noise = 2.0 / std::sqrt(n);
  const double first = autocorrelation(z, 1);
  // An estimate from n samples is too small by (1 + 3 phi) / n (Kendall 1954).
  const double unbiased = first + (1.0 + 3.0 * first) / n;
  phi_ = std::fabs(first) > noise ? std::clamp(unbiased, -kLargestPhi, kLargestPhi) : 0.0;
  sqrt_whitened_ = std::sqrt(1.0 - phi_ * phi_);
  std::vector<double> inputs;
  inputs.reserve(z.size());
  double before = gap;
  for (const double score : z) {
    inputs.push_back(std::isnan(score) || std::isnan(before) ? gap : score - phi_ * before);
    before = score;
  }
  double inflation = 1.0;
  for (std::size_t lag = 2; lag <= 10; ++lag) {
    const double at_lag = autocorrelation(inputs, lag);
    if (at_lag > 1.25 * noise) inflation += 2.0 * at_lag;
  }
  std::vector<double> held = inputs;
  std::erase_if(held, [](double e) { return std::isnan(e); });
  if (held.empty()) held.push_back(0.0);
  const Spread spread = spread_of(held);
  offset_ = spread.mean;
  scale_ = spread.variance > 0.0 ? 1.0 / std::sqrt(spread.variance * inflation) : 1.0;
  for (double& e : held) e = (e - offset_) * scale_;
  for (double& e : inputs) e = (e - offset_) * scale_;
  keep_levels(std::move(held));
  measure_dependence(inputs);
}

void Reference::measure_dependence(const std::vector<double>& inputs) {
  std::vector<double> terms;
  terms.reserve(inputs.size());
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
      const double sign = side == 0 ? 1.0 : -1.0;
      const double allowance = BankCharts::kAllowance[k];
      std::array<Step, kKnots> steps;
      for (std::size_t i = 0; i < levels_; ++i) {
        steps[i] = {sign * level_[i] - allowance, level_share_[i]};
      }
      const double theta = lundberg(std::span(steps).first(levels_));
      if (!(theta > 0.0) || !std::isfinite(theta)) continue;
      double sum = 0.0;
      double squares = 0.0;
      double pairs = 0.0;
      double before = std::numeric_limits<double>::quiet_NaN();
      terms.clear();
      for (const double y : inputs) {
        const double tilted = std::exp(theta * (sign * y - allowance)) - 1.0;
        const double product = tilted * before;
        before = tilted;
        terms.push_back(std::isnan(tilted) ? 0.0 : tilted);
        if (std::isnan(product)) continue;
        sum += product;
        squares += product * product;
        pairs += 1.0;
      }
      if (pairs < 2.0) continue;
      const double mean = sum / pairs;
      const double variance = std::max(0.0, squares / pairs - mean * mean);
      // A chart's way to its threshold h = log(arl0) / 2k takes some h / k steps; what hangs
      // together over longer spans makes alarms come in bunches, but no more of them.
      const double span = 8.0 / (allowance * allowance);
      const Bunching far = bunching_of(terms, span);
      // What phi is in error by, sqrt((1 - phi^2) / n), whitening leaves in all of these steps, not
      // in the next alone: phi^(j - 1) of it in the product with the one j before.
      const double lasting = (1.0 - std::pow(std::max(0.0, phi_), span)) / (1.0 - phi_);
      const double later = std::max(1.0, (1.0 - phi_ * phi_) * lasting * lasting);
      dependence_[side][k] = {std::max(std::log1p(std::max(0.0, mean)), far.sum),
                              std::max(later * variance, far.variance)};
    }
  }
}

// Few distinct values are kept as they are; many go to bins of equal width, by their means. What
// calibration never saw comes once in count + 1 samples: on a side where no sample was as rare as
// that, so much is added at the limit.
void Reference::keep_levels(std::vector<double> inputs) {
  std::sort(inputs.begin(), inputs.end());
  const double share = 1.0 / static_cast<double>(inputs.size());
  const double low = inputs.front();
  constexpr std::size_t kBins = kKnots - 2;
  const double width = (inputs.back() - low) / static_cast<double>(kBins);
  const auto bin_of = [&](double e) {
    if (!(width > 0.0)) return std::size_t{0};
    return std::min(kBins - 1, static_cast<std::size_t>((e - low) / width));
  };
  levels_ = 0;
  const double rare = 1.0 / static_cast<double>(count_ + 1);
  const double lowest = prepared(-limit_, std::numeric_limits<double>::quiet_NaN());
  const double highest = prepared(limit_, std::numeric_limits<double>::quiet_NaN());
  if (table_.lowest_score() > 0.01 - limit_ && low > lowest) {
    level_[levels_] = lowest;
    level_share_[levels_++] = rare;
  }
  for (std::size_t first = 0; first < inputs.size();) {
    const std::size_t bin = bin_of(inputs[first]);
    double sum = 0.0;
    std::size_t last = first;
    while (last < inputs.size() && bin_of(inputs[last]) == bin) sum += inputs[last++];
    level_[levels_] = sum / static_cast<double>(last - first);
    level_share_[levels_++] = share * static_cast<double>(last - first);
    first = last;
  }
  if (table_.highest_score() < limit_ - 0.01 && inputs.back() < highest) {
    level_[levels_] = highest;
    level_share_[levels_++] = rare;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < levels_; ++i) sum += level_share_[i];
  for (std::size_t i = 0; i < levels_; ++i) level_share_[i] /= sum;
}

Reference Reference::normal(double mean, double std) {
  require_finite("mean", mean);
  require_positive("std", std);
  Reference reference;
  reference.is_exact_ = true;
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
  reference.levels_ = kKnots;
  const double width = 2.0 * kBound / static_cast<double>(kKnots);
  double before = 0.0;
  for (std::size_t i = 0; i < kKnots; ++i) {
    const double low = -kBound + width * static_cast<double>(i);
    const double density_low = std::exp(-0.5 * low * low);
    const double density_high = std::exp(-0.5 * (low + width) * (low + width));
    const double below = i + 1 == kKnots ? 1.0 : normal_cdf(low + width);
    const double share = low < 0.0 ? below - before : normal_cdf(-low) - normal_cdf(-low - width);
    reference.level_share_[i] = share;
    reference.level_[i] = (density_low - density_high) / std::sqrt(2.0 * std::numbers::pi) / share;
    before = below;
  }
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
  StateWriter writer(kTag, 1);
  writer.u64(count_);
  writer.u64(skipped_);
  writer.f64(table_.unit);
  writer.u64(table_.knots);
  for (std::size_t i = 0; i < table_.knots; ++i) {
    writer.f64(table_.values[i]);
    writer.f64(table_.segments[i].score);
  }
  writer.u8(is_exact_ ? 1 : 0);
  for (const double value : {limit_, phi_, sqrt_whitened_, offset_, scale_}) writer.f64(value);
  writer.u64(levels_);
  for (std::size_t i = 0; i < levels_; ++i) {
    writer.f64(level_[i]);
    writer.f64(level_share_[i]);
  }
  for (const auto& side : dependence_) {
    for (const Dependence& held : side) {
      writer.f64(held.excess);
      writer.f64(held.variance);
    }
  }
  return std::move(writer).finish();
}

Reference Reference::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
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
  reference.is_exact_ = reader.u8() != 0;
  for (double* value : {&reference.limit_, &reference.phi_, &reference.sqrt_whitened_,
                        &reference.offset_, &reference.scale_}) {
    *value = reader.f64();
  }
  StateReader::require(reference.limit_ > 0.0 && reference.limit_ <= kBound &&
                           std::fabs(reference.phi_) < 1.0 && std::isfinite(reference.offset_) &&
                           reference.scale_ > 0.0 && std::isfinite(reference.scale_) &&
                           reference.sqrt_whitened_ > 0.0 && reference.sqrt_whitened_ <= 1.0,
                       "a preparation out of range");
  const std::uint64_t levels = reader.u64();
  StateReader::require(levels >= 1 && levels <= kKnots, "levels out of range");
  reference.levels_ = static_cast<std::size_t>(levels);
  for (std::size_t i = 0; i < reference.levels_; ++i) {
    reference.level_[i] = reader.f64();
    reference.level_share_[i] = reader.f64();
    StateReader::require(std::isfinite(reference.level_[i]) && reference.level_share_[i] >= 0.0 &&
                             reference.level_share_[i] <= 1.0 + 1e-9,
                         "levels out of range");
  }
  for (auto& side : reference.dependence_) {
    for (Dependence& held : side) {
      held.excess = reader.f64();
      held.variance = reader.f64();
      StateReader::require(held.excess >= 0.0 && held.variance >= 0.0, "levels out of range");
    }
  }
  reader.finish();
  return reference;
}

}  // namespace selfheal
