#include "selfheal/base/moments.hpp"

#include <cmath>
#include <limits>

#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"

namespace selfheal {
namespace {
constexpr StateTag kTag = state_tag("MOMT");
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
}  // namespace

void Moments::Part::add(double x) noexcept {
  ++count;
  const double deviation = x - mean;
  mean += deviation / static_cast<double>(count);
  squares += deviation * (x - mean);
}

Moments::Moments(std::uint64_t window) : window_(static_cast<std::size_t>(window)) {
  if (window > kMaxWindow) refuse("window", "an integer from 1 to 67108864", window);
  samples_.resize(window_);
  suffix_mean_.resize(window_);
  suffix_squares_.resize(window_);
}

void Moments::update(double x) noexcept {
  if (!(std::fabs(x) <= kLargest)) {
    ++skipped_;
    return;
  }
  if (window_ == 0) {
    newer_.add(x);
    return;
  }
  if (count() == window_) {
    if (older_begin_ == older_end_) {
      older_begin_ = 0;
      older_end_ = window_;
      newer_ = Part{};
      rebuild_suffixes();
    }
    ++older_begin_;
  }
  samples_[static_cast<std::size_t>(newer_.count)] = x;
  newer_.add(x);
}

void Moments::rebuild_suffixes() noexcept {
  Part suffix;
  for (std::size_t i = older_end_; i-- > older_begin_;) {
    suffix.add(samples_[i]);
    suffix_mean_[i] = suffix.mean;
    suffix_squares_[i] = suffix.squares;
  }
}

Moments::Part Moments::merge(const Part& a, const Part& b) noexcept {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const auto count_a = static_cast<double>(a.count);
  const auto count_b = static_cast<double>(b.count);
  const double share = count_b / (count_a + count_b);
  const double difference = b.mean - a.mean;
  return {a.count + b.count, a.mean + difference * share,
          a.squares + b.squares + difference * difference * count_a * share};
}

Moments::Part Moments::total() const noexcept {
  if (older_count() == 0) return newer_;
  return merge({older_count(), suffix_mean_[older_begin_], suffix_squares_[older_begin_]}, newer_);
}

double Moments::mean() const noexcept { return count() == 0 ? kNan : total().mean; }

double Moments::variance() const noexcept {
  const Part all = total();
  return all.count < 2 ? kNan : all.squares / static_cast<double>(all.count - 1);
}

double Moments::std() const noexcept { return std::sqrt(variance()); }

void Moments::reset() noexcept {
  older_begin_ = 0;
  older_end_ = 0;
  newer_ = Part{};
  skipped_ = 0;
}

std::size_t Moments::memory_bytes() const noexcept {
  return sizeof *this +
         (samples_.capacity() + suffix_mean_.capacity() + suffix_squares_.capacity()) *
             sizeof(double);
}

std::vector<std::byte> Moments::state() const {
  StateWriter writer(kTag, 1);
  writer.u64(window_);
  writer.u64(skipped_);
  writer.u64(older_begin_);
  writer.u64(older_end_);
  writer.u64(newer_.count);
  writer.f64(newer_.mean);
  writer.f64(newer_.squares);
  if (window_ != 0) {
    for (std::size_t i = 0; i < newer_.count; ++i) writer.f64(samples_[i]);
    for (std::size_t i = older_begin_; i < older_end_; ++i) writer.f64(samples_[i]);
  }
  return std::move(writer).finish();
}

Moments Moments::from_state(std::span<const std::byte> blob, std::size_t most_bytes) {
  StateReader reader(blob, kTag, 1, most_bytes);
  const std::uint64_t window = reader.u64();
  StateReader::require(window <= kMaxWindow, "a window out of range");
  const std::uint64_t skipped = reader.u64();
  const std::uint64_t begin = reader.u64();
  const std::uint64_t end = reader.u64();
  Part newer;
  newer.count = reader.u64();
  newer.mean = reader.f64();
  newer.squares = reader.f64();
  StateReader::require(std::isfinite(newer.mean) && newer.squares >= 0.0, "moments out of range");
  if (window == 0) {
    StateReader::require(begin == 0 && end == 0, "a window where there is none");
  } else {
    StateReader::require(begin <= end && (end == window || end == 0) && newer.count <= window &&
                             (begin == end || newer.count <= begin),
                         "a window in disorder");
    reader.require_exactly(newer.count + (end - begin), sizeof(double));
  }
  Moments moments(reader.claim(window, 3 * sizeof(double)));
  moments.skipped_ = skipped;
  moments.older_begin_ = static_cast<std::size_t>(begin);
  moments.older_end_ = static_cast<std::size_t>(end);
  moments.newer_ = newer;
  if (window != 0) {
    for (std::size_t i = 0; i < newer.count; ++i) moments.samples_[i] = reader.f64();
    for (std::size_t i = moments.older_begin_; i < moments.older_end_; ++i) {
      moments.samples_[i] = reader.f64();
    }
    moments.rebuild_suffixes();
  }
  reader.finish();
  return moments;
}

}  // namespace selfheal
