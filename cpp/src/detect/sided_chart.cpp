#include "selfheal/detect/sided_chart.hpp"

#include <cmath>
#include <limits>

#include "detect/sided_scan.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kLargestScore = 1073741824.0;  // 2^30
constexpr double kNever = std::numeric_limits<double>::infinity();

double on_grid(double z) noexcept { return (z + kGridShift) - kGridShift; }

void scan(const float* samples, const ScanParameters& p, ScanResult& result) noexcept {
  chosen_scan().floats(samples, p, result);
}
void scan(const double* samples, const ScanParameters& p, ScanResult& result) noexcept {
  chosen_scan().doubles(samples, p, result);
}

void require_within(std::string_view name, double value) {
  if (value > SidedChart::kLargest) refuse(name, "at most 2^29 standard deviations", value);
}

// What runs that follow each other come to. Their sums that began at g: either a run brought them
// down to zero, or g is still in them. Unrolled, the sum before run n is P_n + max(g, the largest
// of end_j - P_(j+1) before it), P the sums of all steps so far: one addition and one maximum a
// run wait for those before, where the recurrence itself would make twice as many wait.
struct Joined {
  std::array<double, kScanLanes + 1> z_sums;  // of z, up to each run
  double upper;
  double lower;
  double top;  // at least the largest value on the way
};

inline void join(const ScanResult& runs, double fallen, double upper, double lower,
                 Joined& joined) noexcept {
  auto& z = joined.z_sums;
  z[0] = 0.0;
  for (std::size_t n = 0; n < kScanLanes; ++n) z[n + 1] = z[n] + runs.z_sum[n];
  double upper_top = 0.0;
  double lower_top = 0.0;
  double fallen_before = 0.0;
  for (std::size_t n = 0; n < kScanLanes; ++n) {
    const double fallen_after = static_cast<double>(n + 1) * fallen;
    upper_top = std::max(upper_top, (z[n] - fallen_before) + (upper + runs.up_top[n]));
    lower_top = std::max(lower_top, (lower + runs.down_top[n]) - (z[n] + fallen_before));
    upper = std::max(upper, runs.up_end[n] - (z[n + 1] - fallen_after));
    lower = std::max(lower, runs.down_end[n] + (z[n + 1] + fallen_after));
    fallen_before = fallen_after;
  }
  joined.upper = upper + (z[kScanLanes] - fallen_before);
  joined.lower = lower - (z[kScanLanes] + fallen_before);
  joined.top = std::max(upper_top, lower_top);
}

// The same with one side kept at zero by a factor.
inline void join_one_sided(const ScanResult& runs, double fallen, double keep_upper,
                           double keep_lower, double upper, double lower, Joined& joined) noexcept {
  joined.top = 0.0;
  joined.z_sums[0] = 0.0;
  for (std::size_t n = 0; n < kScanLanes; ++n) {
    joined.z_sums[n + 1] = joined.z_sums[n] + runs.z_sum[n];
    joined.top = std::max(joined.top, std::max(upper + runs.up_top[n], lower + runs.down_top[n]));
    upper = keep_upper * std::max(upper + runs.sum[n], runs.up_end[n]);
    lower = keep_lower * std::max(lower - (runs.z_sum[n] + fallen), runs.down_end[n]);
  }
  joined.upper = upper;
  joined.lower = lower;
}

}  // namespace

inline double SidedChart::standardised(double x) const noexcept {
  const double z = (x - mean_) * reciprocal_std_;
  return on_grid(z > kLargestScore ? kLargestScore : (z < -kLargestScore ? -kLargestScore : z));
}

// A side that is not in use falls without end, so it stays at zero.
inline double SidedChart::allowance_for(Sides other) const noexcept {
  return sides_ == other ? kNever : on_grid(allowance_);
}

inline bool SidedChart::take(double z, double up, double down) noexcept {
  const double upper = upper_ + (z - up);
  const double lower = lower_ + (-z - down);
  upper_ = upper > 0.0 ? upper : 0.0;
  lower_ = lower > 0.0 ? lower : 0.0;
  return upper_ > threshold_ || lower_ > threshold_;
}

// Takes one run, or less if a sample of it raises the alarm: then true.
template <typename T>
bool SidedChart::take_run(const T* samples, double& upper, double& lower) noexcept {
  const double up = allowance_for(Sides::kLower);
  const double down = allowance_for(Sides::kUpper);
  upper_ = upper;
  lower_ = lower;
  for (std::size_t i = 0; i < OnsetTracker::kStride && !drift_detected_; ++i) {
    const double z = standardised(static_cast<double>(samples[i]));
    if (tracker_) tracker_->push_coarse(z, count_);
    ++count_;
    drift_detected_ = take(z, up, down);
  }
  upper = upper_;
  lower = lower_;
  return drift_detected_;
}

// Gives the tracker its fine marks: `reach` samples, each `stride` after the one before, were taken
// last and none of them skipped.
template <typename T>
void SidedChart::refill(const T* latest, std::size_t stride, std::size_t reach) noexcept {
  if (!tracker_) return;
  tracker_->refill(
      [&](std::size_t i) { return standardised(static_cast<double>(latest[i * stride])); }, reach,
      count_ - 1);
}
template void SidedChart::refill(const float*, std::size_t, std::size_t) noexcept;
template void SidedChart::refill(const double*, std::size_t, std::size_t) noexcept;

// Takes whole runs of samples that are all finite and raise no alarm, and the run that does. Stops
// before a block with a sample that is not finite. The tracker's count is a multiple of the stride.
template <typename T>
std::size_t SidedChart::take_clean(std::span<const T> samples) noexcept {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  const std::uint64_t first = count_;
  const ScanParameters parameters{mean_, reciprocal_std_, on_grid(allowance_)};
  const double fallen = static_cast<double>(kStride) * parameters.allowance;
  // A side that is not in use starts every run at zero and cannot raise the alarm.
  const double keep_upper = sides_ == Sides::kLower ? 0.0 : 1.0;
  const double keep_lower = sides_ == Sides::kUpper ? 0.0 : 1.0;
  const double threshold = threshold_;
  OnsetTracker* const tracker = tracker_.get();
  double upper = upper_;
  double lower = lower_;
  ScanResult result;
  Joined joined;
  std::size_t taken = 0;
  bool done = false;
  while (!done && samples.size() - taken >= kScanBlock) {
    scan(samples.data() + taken, parameters, result);
    if (sides_ == Sides::kBoth) {
      join(result, fallen, upper, lower, joined);
    } else {
      join_one_sided(result, fallen, keep_upper, keep_lower, upper, lower, joined);
    }
    if (!result.is_finite) break;
    if (joined.top > threshold) [[unlikely]] {
      for (std::size_t lane = 0; lane < kScanLanes && !done; ++lane) {
        if (upper + result.up_top[lane] > threshold || lower + result.down_top[lane] > threshold) {
          done = take_run(samples.data() + taken, upper, lower);
          taken = static_cast<std::size_t>(count_ - first);
          continue;
        }
        const double sum = result.z_sum[lane];
        upper = keep_upper * std::max(upper + result.sum[lane], result.up_end[lane]);
        lower = keep_lower * std::max(lower - (sum + fallen), result.down_end[lane]);
        taken += kStride;
        count_ += kStride;
        if (tracker != nullptr) tracker->push_stride(sum, count_ - 1);
      }
      continue;
    }
    upper = joined.upper;
    lower = joined.lower;
    if (tracker != nullptr) {
      tracker->push_strides<kScanLanes>(joined.z_sums.data() + 1, count_);
    }
    taken += kScanBlock;
    count_ += kScanBlock;
  }
  upper_ = upper;
  lower_ = lower;
  if (taken > 0) {
    const std::size_t reach = std::min(taken, OnsetTracker::kFineReach);
    refill(samples.data() + (taken - reach), 1, reach);
  }
  return taken;
}

// In this file rather than in the header, so that it is compiled with our floating-point flags.
template <typename T>
inline std::size_t SidedChart::take_until_alarm(std::span<const T> samples) noexcept {
  if (samples.empty()) return 0;
  if (drift_detected_) restart();
  const double up = allowance_for(Sides::kLower);
  const double down = allowance_for(Sides::kUpper);
  std::size_t taken = 0;
  while (taken < samples.size() && !drift_detected_) {
    const bool aligned = !tracker_ || tracker_->count() % OnsetTracker::kStride == 0;
    if (aligned && samples.size() - taken >= kScanBlock) {
      const std::size_t clean = take_clean(samples.subspan(taken));
      taken += clean;
      if (clean > 0) continue;
    }
    // One by one: the end of the samples, a block with a gap, or the way to the next stride.
    for (std::size_t i = 0; i < kScanBlock && taken < samples.size(); ++i) {
      const auto x = static_cast<double>(samples[taken]);
      ++taken;
      const std::uint64_t index = count_++;
      if (!std::isfinite(x)) [[unlikely]] {
        ++skipped_;
        continue;
      }
      const double z = standardised(x);
      if (tracker_) tracker_->push(z, index);
      if (take(z, up, down)) {
        drift_detected_ = true;
        break;
      }
      if (tracker_ && tracker_->count() % OnsetTracker::kStride == 0) break;
    }
  }
  return taken;
}

bool SidedChart::update(double x) noexcept {
  if (drift_detected_) restart();
  const std::uint64_t index = count_++;
  if (!std::isfinite(x)) [[unlikely]] {
    ++skipped_;
    return false;
  }
  const double z = standardised(x);
  if (tracker_) tracker_->push(z, index);
  drift_detected_ = take(z, allowance_for(Sides::kLower), allowance_for(Sides::kUpper));
  if (drift_detected_) [[unlikely]]
    is_told_ = !latch_.is_on() || tell();
  return drift_detected();
}

bool SidedChart::tell() noexcept {
  const Onset onset = change();
  const std::uint64_t used = count_ - skipped_;
  const std::uint64_t before = used - tracker_->count() + onset.before;
  return latch_.tell(direction(), used, tracker_->sum(), onset.ago(count_), onset.shift,
                     Latch::Before{before, onset.sum_before});
}

void SidedChart::accept() noexcept {
  const double moved = mean_ + change().shift * std_;
  if (std::isfinite(moved)) mean_ = moved;
  latch_.clear();
  restart();
}

// Alarms that the latch holds back end no batch.
template <typename T>
std::size_t SidedChart::take_until_told(std::span<const T> samples) noexcept {
  std::size_t taken = 0;
  do {
    taken += take_until_alarm(samples.subspan(taken));
    if (drift_detected_) is_told_ = !latch_.is_on() || tell();
  } while (drift_detected_ && !is_told_ && taken < samples.size());
  return taken;
}

std::size_t SidedChart::advance(std::span<const float> samples) noexcept {
  return take_until_told(samples);
}

std::size_t SidedChart::advance(std::span<const double> samples) noexcept {
  return take_until_told(samples);
}

SidedChart::SidedChart(double mean, double std, double allowance, double threshold, Sides sides,
                       bool track_onset, bool latch, std::string_view allowance_name,
                       std::string_view threshold_name)
    : mean_(mean),
      std_(std),
      reciprocal_std_(1.0 / std),
      allowance_(allowance),
      threshold_(threshold),
      latch_(latch),
      sides_(sides) {
  require_finite("mean", mean);
  require_positive("std", std);
  require_not_negative(allowance_name, allowance);
  require_within(allowance_name, allowance);
  require_positive(threshold_name, threshold);
  require_within(threshold_name, threshold);
  if (latch && !track_onset) refuse("latch", "false without track_onset", std::string_view("true"));
  if (track_onset) tracker_ = std::make_unique<OnsetTracker>();
}

void SidedChart::restart() noexcept {
  upper_ = 0.0;
  lower_ = 0.0;
  drift_detected_ = false;
  if (tracker_) tracker_->restart(count_);
}

void SidedChart::reset() noexcept {
  count_ = 0;
  skipped_ = 0;
  latch_.clear();
  restart();
}

void SidedChart::write(StateWriter& writer) const {
  for (const double value : {mean_, std_, allowance_, threshold_}) writer.f64(value);
  writer.u8(static_cast<std::uint8_t>(sides_));
  writer.u8(drift_detected_ ? 1 : 0);
  writer.u8(tracker_ ? 1 : 0);
  writer.u64(count_);
  writer.u64(skipped_);
  writer.f64(upper_);
  writer.f64(lower_);
  writer.u8(is_told_ ? 1 : 0);
  latch_.write(writer);
  if (tracker_) tracker_->write(writer);
}

SidedChart::SidedChart(StateReader& reader)
    : mean_(reader.f64()),
      std_(reader.f64()),
      reciprocal_std_(1.0 / std_),
      allowance_(reader.f64()),
      threshold_(reader.f64()),
      sides_(Sides::kBoth) {
  const auto is_positive = [](double value) {
    return std::isfinite(value) && value >= std::numeric_limits<double>::min();
  };
  StateReader::require(std::isfinite(mean_) && is_positive(std_) && std::isfinite(allowance_) &&
                           allowance_ >= 0.0 && allowance_ <= kLargest && is_positive(threshold_) &&
                           threshold_ <= kLargest,
                       "parameters out of range");
  const std::uint8_t sides = reader.u8();
  StateReader::require(sides <= static_cast<std::uint8_t>(Sides::kLower), "unknown sides");
  sides_ = static_cast<Sides>(sides);
  drift_detected_ = reader.u8() != 0;
  if (reader.u8() != 0) tracker_ = std::make_unique<OnsetTracker>();
  count_ = reader.u64();
  skipped_ = reader.u64();
  upper_ = reader.f64();
  lower_ = reader.f64();
  StateReader::require(skipped_ <= count_, "more samples skipped than seen");
  StateReader::require(upper_ >= 0.0 && lower_ >= 0.0 && std::isfinite(upper_ + lower_),
                       "a sum out of range");
  if (reader.version() >= 2) {
    is_told_ = reader.u8() != 0;
    latch_.read(reader, count_ - skipped_);
    StateReader::require(!latch_.is_on() || tracker_ != nullptr, "a latch without onset");
  }
  if (tracker_) {
    tracker_->read(reader);
    StateReader::require(tracker_->count() <= count_, "more samples tracked than seen");
  }
}

}  // namespace selfheal
