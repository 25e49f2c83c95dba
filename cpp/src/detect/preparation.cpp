#include "selfheal/detect/preparation.hpp"

#include <algorithm>
#include <limits>
#include <numbers>
#include <utility>

#include "detect/bunching.hpp"
#include "detect/lundberg.hpp"
#include "detect/normal_quantile.hpp"

namespace selfheal {
namespace {

constexpr double kBound = 8.0;
constexpr double kLargestPhi = 0.995;
constexpr double kTailShare = 0.001;   // of scores beyond the cut
constexpr double kTailSamples = 20.0;  // calibration samples that must be there
constexpr double kLargestTailShare = 0.08;
// Standard deviations of the parts' means that a level may be from the calibration's: of a few
// parts these are known to half, and what wanders goes on. A straight line goes further than it
// went.
constexpr double kWanderQuantile = 2.5;
constexpr double kUnsteady = 1.168;
constexpr double kTrend = 0.7;
constexpr double kTrendGoesOn = 4.0;

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

// How far what is summed strays (Kwiatkowski and others 1992). The inputs are white where a memory
// is all that there is, so no correction for one is needed.
double unsteadiness_of(const std::vector<double>& values) {
  std::vector<double> held = values;
  std::erase_if(held, [](double e) { return std::isnan(e); });
  const auto n = static_cast<double>(held.size());
  const Spread spread = held.empty() ? Spread{0.0, 0.0} : spread_of(held);
  if (!(spread.variance > 0.0)) return 0.0;
  double sum = 0.0;
  double squares = 0.0;
  for (const double e : held) {
    sum += e - spread.mean;
    squares += sum * sum;
  }
  return squares / (n * n * spread.variance);
}

struct Wander {
  double sd = 0.0;     // of the means of long stretches, more of a trend
  double trend = 0.0;  // the part of that which a straight line explains
  double unsteadiness = 0.0;
};

// Means of eight, sixteen and more parts, up to `finest`: of independent values with this variance
// their squares, in units of their standard error, are chi-squared; the limits, and that of the
// sums, are passed once in a thousand calibrations.
Wander wander_of(const std::vector<double>& values, double value_variance, std::size_t finest) {
  struct Parts {
    std::size_t count;
    double limit;
  };
  Wander found;
  found.unsteadiness = unsteadiness_of(values);
  const bool strays = found.unsteadiness > kUnsteady;
  constexpr std::array<Parts, 3> kParts{{{8, 24.32 / 7.0}, {16, 37.70 / 15.0}, {32, 61.10 / 31.0}}};
  for (const Parts& parts : kParts) {
    if (parts.count > finest) continue;
    std::vector<double> means;
    double held = 0.0;
    for (std::size_t part = 0; part < parts.count; ++part) {
      double sum = 0.0;
      double count = 0.0;
      const std::size_t end = (part + 1) * values.size() / parts.count;
      for (std::size_t i = part * values.size() / parts.count; i < end; ++i) {
        if (std::isnan(values[i])) continue;
        sum += values[i];
        count += 1.0;
      }
      if (count > 0.0) means.push_back(sum / count);
      held += count;
    }
    if (means.size() < parts.count) continue;
    const auto m = static_cast<double>(means.size());
    const double expected = value_variance * m / held;
    const Spread spread = spread_of(means);
    const double variance = spread.variance * m / (m - 1.0);
    if (!(variance > (strays ? 1.0 : parts.limit) * expected)) continue;
    double products = 0.0;
    for (std::size_t i = 0; i < means.size(); ++i) {
      products += (static_cast<double>(i) - 0.5 * (m - 1.0)) * (means[i] - spread.mean);
    }
    const double along = (m * m - 1.0) / 12.0;  // variance of the places
    const double explained = products * products / (m * m * along * spread.variance);
    const double farther = explained > kTrend ? kTrendGoesOn : 1.0;
    found.sd = std::max(found.sd, farther * std::sqrt(variance - expected));
    if (parts.count == 8) found.trend = explained;
  }
  return found;
}

}  // namespace

Preparation::Preparation(std::vector<double> z, std::uint64_t count, double lowest, double highest,
                         bool whiten) {
  const auto n = static_cast<double>(count);
  limit_ = std::max({highest, -lowest, normal_quantile(1.0 - 0.5 / n)});
  const double gap = std::numeric_limits<double>::quiet_NaN();
  for (double& score : z) score = clip(score);  // a gap stays one
  const double noise = 2.0 / std::sqrt(n);
  const double first = autocorrelation(z, 1);
  // An estimate from n samples is too small by (1 + 3 phi) / n (Kendall 1954).
  const double unbiased = first + (1.0 + 3.0 * first) / n;
  phi_ = whiten && std::fabs(first) > noise ? std::clamp(unbiased, -kLargestPhi, kLargestPhi) : 0.0;
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
  keep_levels(std::move(held), count, lowest, highest);
  measure_dependence(inputs);
  measure_far(inputs, count);
  measure_wander(inputs);
}

void Preparation::measure_far(const std::vector<double>& inputs, std::uint64_t count) {
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    const double sign = side == 0 ? 1.0 : -1.0;
    const double cut = far_cut(*this, side, static_cast<double>(count)).cut;
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      if (!(sign * inputs[i - 1] > cut) || std::isnan(inputs[i])) continue;
      far_[side].followed += 1.0;
      far_[side].by_far += sign * inputs[i] > cut ? 1.0 : 0.0;
    }
  }
}

// The spread is the mean distance from the calibration's level: its own spread is told by the
// distances themselves, of whatever distribution, where they are independent. No chart takes a
// short memory of the spread out, so parts may be finer; one standard deviation of it is allowed
// for.
void Preparation::measure_wander(const std::vector<double>& inputs) {
  const Wander level = wander_of(inputs, 1.0, 16);
  wander_ = kWanderQuantile * level.sd;
  trend_ = level.trend;
  unsteadiness_ = level.unsteadiness;
  std::vector<double> distances;
  distances.reserve(inputs.size());
  for (const double e : inputs) distances.push_back(std::fabs(e));
  std::vector<double> held = distances;
  std::erase_if(held, [](double e) { return std::isnan(e); });
  if (held.empty()) return;
  const Spread of = spread_of(held);
  if (of.mean > 0.0) spread_wander_ = wander_of(distances, of.variance, 32).sd / of.mean;
}

void Preparation::measure_dependence(const std::vector<double>& inputs) {
  std::vector<double> terms;
  terms.reserve(inputs.size());
  for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
    for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
      const double sign = side == 0 ? 1.0 : -1.0;
      const double allowance = BankCharts::kAllowance[k];
      std::array<Step, kLevels> steps;
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
void Preparation::keep_levels(std::vector<double> inputs, std::uint64_t count, double lowest_score,
                              double highest_score) {
  std::sort(inputs.begin(), inputs.end());
  const double share = 1.0 / static_cast<double>(inputs.size());
  const double low = inputs.front();
  constexpr std::size_t kBins = kLevels - 2;
  const double width = (inputs.back() - low) / static_cast<double>(kBins);
  const auto bin_of = [&](double e) {
    if (!(width > 0.0)) return std::size_t{0};
    return std::min(kBins - 1, static_cast<std::size_t>((e - low) / width));
  };
  levels_ = 0;
  const double rare = 1.0 / static_cast<double>(count + 1);
  const double lowest = prepared(-limit_, std::numeric_limits<double>::quiet_NaN());
  const double highest = prepared(limit_, std::numeric_limits<double>::quiet_NaN());
  if (lowest_score > 0.01 - limit_ && low > lowest) {
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
  if (highest_score < limit_ - 0.01 && inputs.back() < highest) {
    level_[levels_] = highest;
    level_share_[levels_++] = rare;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < levels_; ++i) sum += level_share_[i];
  for (std::size_t i = 0; i < levels_; ++i) level_share_[i] /= sum;
}

Preparation Preparation::normal() {
  Preparation preparation;
  preparation.is_exact_ = true;
  preparation.levels_ = kLevels;
  const double width = 2.0 * kBound / static_cast<double>(kLevels);
  double before = 0.0;
  for (std::size_t i = 0; i < kLevels; ++i) {
    const double low = -kBound + width * static_cast<double>(i);
    const double density_low = std::exp(-0.5 * low * low);
    const double density_high = std::exp(-0.5 * (low + width) * (low + width));
    const double below = i + 1 == kLevels ? 1.0 : normal_cdf(low + width);
    const double share = low < 0.0 ? below - before : normal_cdf(-low) - normal_cdf(-low - width);
    preparation.level_share_[i] = share;
    preparation.level_[i] =
        (density_low - density_high) / std::sqrt(2.0 * std::numbers::pi) / share;
    before = below;
  }
  return preparation;
}

void Preparation::write(StateWriter& writer) const {
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
  for (const FarSamples& held : far_) {
    writer.f64(held.followed);
    writer.f64(held.by_far);
  }
  writer.f64(wander_);
  writer.f64(trend_);
  writer.f64(unsteadiness_);
  writer.f64(spread_wander_);
}

Preparation Preparation::read(StateReader& reader, std::uint16_t version) {
  Preparation held;
  held.is_exact_ = reader.u8() != 0;
  for (double* value :
       {&held.limit_, &held.phi_, &held.sqrt_whitened_, &held.offset_, &held.scale_}) {
    *value = reader.f64();
  }
  StateReader::require(held.limit_ > 0.0 && held.limit_ <= kBound && std::fabs(held.phi_) < 1.0 &&
                           std::isfinite(held.offset_) && held.scale_ > 0.0 &&
                           std::isfinite(held.scale_) && held.sqrt_whitened_ > 0.0 &&
                           held.sqrt_whitened_ <= 1.0,
                       "a preparation out of range");
  const std::uint64_t levels = reader.u64();
  StateReader::require(levels >= 1 && levels <= kLevels, "levels out of range");
  held.levels_ = static_cast<std::size_t>(levels);
  for (std::size_t i = 0; i < held.levels_; ++i) {
    held.level_[i] = reader.f64();
    held.level_share_[i] = reader.f64();
    StateReader::require(std::isfinite(held.level_[i]) && held.level_share_[i] >= 0.0 &&
                             held.level_share_[i] <= 1.0 + 1e-9,
                         "levels out of range");
  }
  for (auto& side : held.dependence_) {
    for (Dependence& one : side) {
      one.excess = reader.f64();
      one.variance = reader.f64();
      StateReader::require(one.excess >= 0.0 && one.variance >= 0.0, "levels out of range");
    }
  }
  if (version < 2) return held;
  for (FarSamples& one : held.far_) {
    one.followed = reader.f64();
    one.by_far = reader.f64();
    StateReader::require(one.by_far >= 0.0 && one.by_far <= one.followed, "counts out of range");
  }
  held.wander_ = reader.f64();
  held.trend_ = reader.f64();
  StateReader::require(held.wander_ >= 0.0 && held.trend_ >= 0.0 && held.trend_ <= 1.0 + 1e-9,
                       "a wander out of range");
  if (version < 3) return held;
  held.unsteadiness_ = reader.f64();
  StateReader::require(held.unsteadiness_ >= 0.0 && std::isfinite(held.unsteadiness_),
                       "an unsteadiness out of range");
  if (version < 4) return held;
  held.spread_wander_ = reader.f64();
  StateReader::require(held.spread_wander_ >= 0.0 && std::isfinite(held.spread_wander_),
                       "a wander out of range");
  return held;
}

FarCut far_cut(const Preparation& preparation, std::size_t side, double samples) noexcept {
  const double wanted = std::max(kTailShare, std::min(kTailSamples / samples, kLargestTailShare));
  const std::size_t levels = preparation.levels();
  FarCut result{std::numeric_limits<double>::infinity(), 0.0};
  for (std::size_t i = 0; i < levels; ++i) {  // from the farthest to the middle
    const std::size_t at = side == 0 ? levels - 1 - i : i;
    const double sign = side == 0 ? 1.0 : -1.0;
    if (result.share + preparation.level_share(at) > wanted) break;
    result.share += preparation.level_share(at);
    const std::size_t next = side == 0 ? at - 1 : at + 1;
    result.cut = i + 1 == levels ? -std::numeric_limits<double>::infinity()
                                 : sign * 0.5 * (preparation.level(at) + preparation.level(next));
  }
  return result;
}

}  // namespace selfheal
