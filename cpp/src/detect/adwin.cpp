#include "selfheal/detect/adwin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

static_assert(Adwin::kRows < 63);
double bucket_size(std::size_t row) noexcept {
  return static_cast<double>(std::uint64_t{1} << row);
}
// To multiply by it is as exact as to divide by a power of two, and takes a quarter of the time.
double bucket_share(std::size_t row) noexcept {
  static constexpr std::array<double, Adwin::kRows> kShares = [] {
    std::array<double, Adwin::kRows> shares{};
    double share = 1.0;
    for (double& one : shares) {
      one = share;
      share *= 0.5;
    }
    return shares;
  }();
  return kShares[row];
}

// Whether the means of n0 and n1 samples with these sums differ by so little that the bound cannot
// be reached, whatever the last bits of either are: by cross-multiplication, since quotients and a
// root for every cut are what a check would spend its time on. bound: what the square of the
// difference times n0 * n1 / width has to exceed, at least.
bool surely_same(double n0, double n1, double u0, double u1, double bound) noexcept {
  constexpr double kSlack = 16.0 * std::numeric_limits<double>::epsilon();
  const double left = u0 * n1;
  const double right = u1 * n0;
  const double most = std::fabs(left - right) + kSlack * (std::fabs(left) + std::fabs(right));
  const double limit = bound * (n0 * n1) * (1.0 - 1e-9);
  // Also false for what is too large to be compared.
  return most * most <= limit && limit <= std::numeric_limits<double>::max();
}

}  // namespace

Adwin::Adwin(double delta, std::uint32_t clock, std::uint32_t max_buckets,
             std::uint32_t min_window_length, std::uint32_t grace_period, bool track_onset,
             bool latch)
    : LearningDetector(track_onset, latch),
      delta_(delta),
      clock_(clock),
      max_buckets_(max_buckets),
      min_window_length_(min_window_length),
      grace_period_(grace_period) {
  if (!(delta > 0.0 && delta <= 1.0)) refuse("delta", "a number above 0, at most 1", delta);
  if (clock < 1) refuse("clock", "an integer >= 1", std::size_t{clock});
  if (max_buckets < 1 || max_buckets > 1000) {
    refuse("max_buckets", "an integer from 1 to 1000", std::size_t{max_buckets});
  }
  if (min_window_length < 1) {
    refuse("min_window_length", "an integer >= 1", std::size_t{min_window_length});
  }
  buckets_.resize(kRows * (std::size_t{max_buckets} + 1));
}

void Adwin::append(std::size_t index, double total, double variance) noexcept {
  row(index)[held_[index]++] = {total, variance};
}

void Adwin::drop_first(std::size_t index, std::uint32_t count) noexcept {
  Bucket* const first = row(index);
  std::copy(first + count, first + held_[index], first);
  held_[index] -= count;
}

void Adwin::insert(double x) noexcept {
  append(0, x, 0.0);
  width_ += 1.0;
  double increment = 0.0;
  if (width_ > 1.0) {
    increment =
        (width_ - 1.0) * (x - total_ / (width_ - 1.0)) * (x - total_ / (width_ - 1.0)) / width_;
  }
  variance_ += increment;
  total_ += x;
  compress();
}

void Adwin::compress() noexcept {
  for (std::size_t index = 0; index < rows_ && held_[index] == max_buckets_ + 1; ++index) {
    if (index + 1 == kRows) {  // 2^40 samples and more
      forget();
      return;
    }
    if (index + 1 == rows_) ++rows_;
    const Bucket* const bucket = row(index);
    const double n = bucket_size(index);
    const double share = bucket_share(index);
    const double mean0 = bucket[0].total * share;
    const double mean1 = bucket[1].total * share;
    const double between = n * n * (mean0 - mean1) * (mean0 - mean1) * (0.5 * share);
    append(index + 1, bucket[0].total + bucket[1].total,
           bucket[0].variance + bucket[1].variance + between);
    drop_first(index, 2);
    if (held_[index + 1] <= max_buckets_) return;
  }
}

void Adwin::delete_oldest() noexcept {
  const std::size_t index = rows_ - 1;
  const Bucket oldest = row(index)[0];
  const double n = bucket_size(index);
  const double mean = oldest.total / n;
  width_ -= n;
  total_ -= oldest.total;
  const double rest = total_ / width_;
  variance_ -= oldest.variance + n * width_ * (mean - rest) * (mean - rest) / (n + width_);
  drop_first(index, 1);
  // With one bucket a row, two that merge leave an empty row between.
  while (held_[rows_ - 1] == 0 && rows_ > 1) --rows_;
}

// spread and prime are the same for all cuts of one window; their logarithms would cost more than
// all the rest.
bool Adwin::differs(double n0, double n1, double difference, double spread,
                    double prime) const noexcept {
  const auto least = static_cast<double>(min_window_length_);
  const double reciprocal = (1.0 / (n0 - least + 1.0)) + (1.0 / (n1 - least + 1.0));
  const double epsilon =
      std::sqrt(2.0 * reciprocal * spread * prime) + 2.0 / 3.0 * prime * reciprocal;
  return std::fabs(difference) > epsilon;
}

// Tests the cuts from the oldest on; at the first that shows a change, drops the oldest bucket.
bool Adwin::shrink_once() noexcept {
  double n0 = 0.0;
  double n1 = width_;
  double u0 = 0.0;
  double u1 = total_;
  const auto least = static_cast<double>(min_window_length_);
  const double spread = variance_ / width_;
  const double prime = std::log(2.0 * std::log(width_) / delta_);
  // The bound's root alone, with the largest samples' counts that its reciprocals may have.
  const double bound = 2.0 * spread * prime * width_;
  for (std::size_t index = rows_; index-- > 0;) {
    const Bucket* const bucket = row(index);
    const double n = bucket_size(index);
    for (std::uint32_t k = 0; k < held_[index]; ++k) {
      n0 += n;
      n1 -= n;
      u0 += bucket[k].total;
      u1 -= bucket[k].total;
      if (index == 0 && k + 1 == held_[index]) return false;
      if (n1 < least || n0 < least || surely_same(n0, n1, u0, u1, bound)) continue;
      if (differs(n0, n1, (u0 / n0) - (u1 / n1), spread, prime)) {
        if (width_ > 0.0) delete_oldest();
        return true;
      }
    }
  }
  return false;
}

bool Adwin::take(double x) noexcept {
  insert(x);
  ++tick_;
  bool changed = false;
  if (tick_ % clock_ == 0 && width_ > static_cast<double>(grace_period_)) {
    while (shrink_once()) changed = true;
  }
  return changed;
}

void Adwin::forget() noexcept {
  tick_ = 0;
  rows_ = 1;
  width_ = 0.0;
  total_ = 0.0;
  variance_ = 0.0;
  held_.fill(0);
}

void Adwin::write(StateWriter& writer) const {
  writer.f64(delta_);
  for (const std::uint32_t value :
       {clock_, max_buckets_, min_window_length_, grace_period_, tick_, rows_}) {
    writer.u32(value);
  }
  for (const double value : {width_, total_, variance_}) writer.f64(value);
  for (std::size_t index = 0; index < rows_; ++index) {
    writer.u32(held_[index]);
    for (std::uint32_t k = 0; k < held_[index]; ++k) {
      const Bucket& bucket = buckets_[index * (max_buckets_ + 1) + k];
      writer.f64(bucket.total);
      writer.f64(bucket.variance);
    }
  }
}

Adwin Adwin::read(StateReader& reader) {
  const double delta = reader.f64();
  const std::uint32_t clock = reader.u32();
  const std::uint32_t max_buckets = reader.u32();
  const std::uint32_t least = reader.u32();
  const std::uint32_t grace = reader.u32();
  StateReader::require(delta > 0.0 && delta <= 1.0 && clock >= 1 && max_buckets >= 1 &&
                           max_buckets <= 1000 && least >= 1,
                       "parameters out of range");
  reader.claim(kRows * (std::uint64_t{max_buckets} + 1), sizeof(Bucket));
  Adwin detector(delta, clock, max_buckets, least, grace, false);
  detector.tick_ = reader.u32();
  detector.rows_ = reader.u32();
  StateReader::require(detector.rows_ >= 1 && detector.rows_ <= kRows, "too many rows");
  detector.width_ = reader.f64();
  detector.total_ = reader.f64();
  detector.variance_ = reader.f64();
  for (std::size_t index = 0; index < detector.rows_; ++index) {
    const std::uint32_t held = reader.u32();
    StateReader::require(held <= max_buckets, "too many buckets in a row");
    for (std::uint32_t k = 0; k < held; ++k) {
      const double total = reader.f64();
      detector.append(index, total, reader.f64());
    }
  }
  StateReader::require(detector.rows_ == 1 || detector.held_[detector.rows_ - 1] != 0,
                       "an empty row at the end");
  return detector;
}

}  // namespace selfheal
