#include "selfheal/detect/kswin.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr std::uint32_t kLargestWindow = std::uint32_t{1} << 24;
constexpr std::uint32_t kLargestSample = 10000;

// Largest difference of two empirical distribution functions of n samples each, times n.
std::uint32_t largest_lead(const std::vector<double>& a, const std::vector<double>& b) noexcept {
  const std::size_t n = a.size();
  std::size_t i = 0;
  std::size_t j = 0;
  std::size_t lead = 0;
  while (i < n && j < n) {
    const double at = std::min(a[i], b[j]);
    while (i < n && a[i] == at) ++i;
    while (j < n && b[j] == at) ++j;
    lead = std::max(lead, i > j ? i - j : j - i);
  }
  return static_cast<std::uint32_t>(lead);
}

// Share of paths that leave the band of half-width h: P(D >= h / n) for two samples of size n
// (Hodges 1958), as a product-sum that does not cancel.
double exact_p_value(double n, std::uint32_t lead) noexcept {
  if (lead == 0) return 1.0;
  const auto h = static_cast<double>(lead);
  double p = 0.0;
  for (double k = std::floor(n / h); k >= 0.0; k -= 1.0) {
    double term = 1.0;
    for (double j = 0.0; j < h; j += 1.0) {
      term = (n - k * h - j) * term / (n + k * h + j + 1.0);
    }
    p = term * (1.0 - p);
  }
  return std::clamp(2.0 * p, 0.0, 1.0);
}

// From how many draws on random.sample keeps a set of what it drew instead of a pool.
std::uint64_t set_size_limit(std::uint32_t draws) noexcept {
  std::uint64_t limit = 21;
  if (draws > 5) {
    const double power = std::ceil(std::log(static_cast<double>(draws) * 3.0) / std::log(4.0));
    limit += std::uint64_t{1} << (2 * static_cast<std::uint64_t>(power));
  }
  return limit;
}

}  // namespace

void Kswin::Twister::seed(std::uint64_t value) noexcept {
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(value),
                                         static_cast<std::uint32_t>(value >> 32)};
  const std::uint32_t length = key[1] == 0 ? 1 : 2;
  words_[0] = 19650218U;
  for (std::uint32_t i = 1; i < kWords; ++i) {
    words_[i] = 1812433253U * (words_[i - 1] ^ (words_[i - 1] >> 30)) + i;
  }
  std::uint32_t i = 1;
  std::uint32_t j = 0;
  const auto wrap = [&] {
    if (++i == kWords) {
      words_[0] = words_[kWords - 1];
      i = 1;
    }
  };
  for (std::size_t k = 0; k < kWords; ++k) {
    words_[i] = (words_[i] ^ ((words_[i - 1] ^ (words_[i - 1] >> 30)) * 1664525U)) + key[j] + j;
    wrap();
    if (++j == length) j = 0;
  }
  for (std::size_t k = 0; k + 1 < kWords; ++k) {
    words_[i] = (words_[i] ^ ((words_[i - 1] ^ (words_[i - 1] >> 30)) * 1566083941U)) - i;
    wrap();
  }
  words_[0] = 0x80000000U;
  used_ = kWords;
}

std::uint32_t Kswin::Twister::next() noexcept {
  if (used_ == kWords) {
    for (std::size_t i = 0; i < kWords; ++i) {
      const std::uint32_t y = (words_[i] & 0x80000000U) | (words_[(i + 1) % kWords] & 0x7fffffffU);
      words_[i] = words_[(i + 397) % kWords] ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908b0dfU : 0U);
    }
    used_ = 0;
  }
  std::uint32_t y = words_[used_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

std::uint32_t Kswin::Twister::below(std::uint32_t n) noexcept {
  const auto bits = static_cast<int>(std::bit_width(n));
  std::uint32_t r = next() >> (32 - bits);
  while (r >= n) r = next() >> (32 - bits);
  return r;
}

void Kswin::Twister::write(StateWriter& writer) const {
  writer.u32(used_);
  for (const std::uint32_t word : words_) writer.u32(word);
}

void Kswin::Twister::read(StateReader& reader) {
  used_ = reader.u32();
  StateReader::require(used_ <= kWords, "a generator out of range");
  std::uint32_t any = 0;
  for (std::uint32_t& word : words_) any |= word = reader.u32();
  StateReader::require(any != 0, "a generator that stands still");
}

Kswin::Kswin(double alpha, std::uint32_t window_size, std::uint32_t stat_size, std::uint64_t seed,
             bool track_onset, bool latch)
    : LearningDetector(track_onset, latch),
      alpha_(alpha),
      window_size_(window_size),
      stat_size_(stat_size),
      seed_(seed) {
  if (!(alpha >= 0.0 && alpha <= 1.0)) refuse("alpha", "a number from 0 to 1", alpha);
  if (stat_size < 1 || stat_size > kLargestSample) {
    refuse("stat_size", "an integer from 1 to 10000", std::size_t{stat_size});
  }
  if (window_size < 2 * stat_size || window_size > kLargestWindow) {
    refuse("window_size", "an integer from 2 * stat_size to 2^24", std::size_t{window_size});
  }
  window_.resize(window_size);
  drawn_.resize(stat_size);
  newest_.resize(stat_size);
  const std::uint32_t rest = window_size - stat_size;
  pool_.resize(rest <= set_size_limit(stat_size) ? rest : stat_size);
  twister_.seed(seed);
}

double Kswin::held(std::size_t position) const noexcept {
  return window_[slot(total_ - window_size_ + position)];
}

// As random.sample(range(window_size - stat_size), stat_size) does.
void Kswin::draw() noexcept {
  const std::uint32_t rest = window_size_ - stat_size_;
  if (rest <= set_size_limit(stat_size_)) {
    for (std::uint32_t i = 0; i < rest; ++i) pool_[i] = i;
    for (std::uint32_t i = 0; i < stat_size_; ++i) {
      const std::uint32_t j = twister_.below(rest - i);
      drawn_[i] = held(pool_[j]);
      pool_[j] = pool_[rest - i - 1];
    }
    return;
  }
  for (std::uint32_t i = 0; i < stat_size_; ++i) {
    const auto drawn = pool_.begin() + static_cast<std::ptrdiff_t>(i);
    std::uint32_t j = twister_.below(rest);
    while (std::find(pool_.begin(), drawn, j) != drawn) j = twister_.below(rest);
    *drawn = j;
    drawn_[i] = held(j);
  }
}

bool Kswin::take(double x) noexcept {
  window_[slot(total_)] = x;
  ++total_;
  if (total_ < window_size_) return false;
  draw();
  for (std::uint32_t i = 0; i < stat_size_; ++i) newest_[i] = held(window_size_ - stat_size_ + i);
  std::sort(drawn_.begin(), drawn_.end());
  std::sort(newest_.begin(), newest_.end());
  const std::uint32_t lead = largest_lead(drawn_, newest_);
  const auto n = static_cast<double>(stat_size_);
  distance_ = static_cast<double>(lead) / n;
  p_value_ = exact_p_value(n, lead);
  return p_value_ <= alpha_ && distance_ > 0.1;
}

void Kswin::forget() noexcept {
  total_ = 0;
  p_value_ = 0.0;
  distance_ = 0.0;
  twister_.seed(seed_);
}

std::size_t Kswin::memory_bytes() const noexcept {
  return sizeof *this + tracker_bytes() +
         (window_.capacity() + drawn_.capacity() + newest_.capacity()) * sizeof(double) +
         pool_.capacity() * sizeof(std::uint32_t);
}

void Kswin::write(StateWriter& writer) const {
  writer.f64(alpha_);
  writer.u32(window_size_);
  writer.u32(stat_size_);
  writer.u64(seed_);
  writer.f64(p_value_);
  writer.f64(distance_);
  writer.u64(total_);
  twister_.write(writer);
  const std::uint64_t count = std::min<std::uint64_t>(total_, window_size_);
  for (std::uint64_t i = total_ - count; i < total_; ++i) writer.f64(window_[slot(i)]);
}

Kswin Kswin::read(StateReader& reader) {
  const double alpha = reader.f64();
  const std::uint32_t window_size = reader.u32();
  const std::uint32_t stat_size = reader.u32();
  const std::uint64_t seed = reader.u64();
  StateReader::require(
      alpha >= 0.0 && alpha <= 1.0 && stat_size >= 1 && stat_size <= kLargestSample &&
          window_size >= 2 * stat_size && window_size <= kLargestWindow &&
          reader.remaining() / sizeof(double) < kLargestWindow + 2 * kLargestSample,
      "parameters out of range");
  reader.claim(window_size + std::uint64_t{3} * stat_size, sizeof(double));
  Kswin detector(alpha, window_size, stat_size, seed, false);
  detector.p_value_ = reader.f64();
  detector.distance_ = reader.f64();
  detector.total_ = reader.u64();
  detector.twister_.read(reader);
  const std::uint64_t count = std::min<std::uint64_t>(detector.total_, window_size);
  for (std::uint64_t i = detector.total_ - count; i < detector.total_; ++i) {
    double& held = detector.window_[detector.slot(i)];
    held = reader.f64();
    StateReader::require(std::isfinite(held), "a sample that is not finite");
  }
  return detector;
}

}  // namespace selfheal
