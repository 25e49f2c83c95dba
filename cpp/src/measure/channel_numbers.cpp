#include "selfheal/measure/channel_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr std::size_t kMostAxes = 8;
constexpr float kMost = 1e12F;

constexpr std::size_t kLanes = 64;
constexpr std::size_t kRows = 256;  // so short that float holds a lane's sum

}  // namespace

ChannelNumbers::ChannelNumbers(InputAxes axes, Quantization quantization)
    : scale_(std::min(static_cast<float>(quantization.scale), kMost)),
      zero_point_(static_cast<float>(quantization.zero_point)) {
  const std::size_t count = axes.shape.size();
  if (count == 0 || count > kMostAxes) refuse("shape", "1 to 8 axes", count);
  if (axes.channel < -1 || axes.channel >= static_cast<int>(count)) {
    refuse("channel", "an axis of shape, or -1", static_cast<double>(axes.channel));
  }
  std::size_t elements = 1;
  for (const std::size_t size : axes.shape) {
    if (size == 0) refuse("shape", "axes of at least one element", size);
    if (elements > (std::size_t{1} << 31U) / size) refuse("shape", "at most 2^31 elements", "more");
    elements *= size;
  }
  const auto channel = static_cast<std::size_t>(axes.channel);
  inner_ = elements;
  if (axes.channel >= 0) {
    channels_ = axes.shape[channel];
    inner_ = 1;
    for (std::size_t k = channel + 1; k < count; ++k) inner_ *= axes.shape[k];
  }
  values_.resize(elements);
  totals_.resize(channels_);
  for (const std::size_t axis : axes.smooth) {
    if (axis >= count) refuse("smooth", "axes of shape", axis);
    if (static_cast<int>(axis) == axes.channel || axes.shape[axis] < 2) continue;
    std::size_t step = 1;
    for (std::size_t k = axis + 1; k < count; ++k) step *= axes.shape[k];
    const std::size_t length = step * axes.shape[axis];
    smooth_.push_back({elements / length, length, step});
  }
  size_ = elements == channels_ ? channels_ : 3 * channels_;
  // Elements that are summed beside each other: of one channel, or whole periods.
  lanes_.resize(inner_ == 1 ? channels_ * std::max<std::size_t>(1, kLanes / channels_) : kLanes);
  middles_.resize(lanes_.size());
}

template <typename T>
void ChannelNumbers::read(const T* input) noexcept {
  float* const to = values_.data();
  const std::size_t count = values_.size();
  const float zero_point = zero_point_;
  const float scale = scale_;
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = (static_cast<float>(input[i]) - zero_point) * scale;
  }
  if constexpr (std::is_floating_point_v<T>) {
    for (std::size_t i = 0; i < count; ++i) {
      to[i] = std::isfinite(input[i]) ? std::clamp(to[i], -kMost, kMost) : 0.0F;
    }
  } else if (scale > kMost / 131072.0F) {
    for (std::size_t i = 0; i < count; ++i) to[i] = std::clamp(to[i], -kMost, kMost);
  }
}

// Adds term(element, lane) of so many elements to their channels' totals. They are whole periods,
// or of one channel.
template <typename Term>
void ChannelNumbers::add(std::size_t first, std::size_t count, Term term) noexcept {
  float* const lanes = lanes_.data();
  const std::size_t width = lanes_.size();
  const std::size_t channel = first / inner_ % channels_;
  const auto place = [&](std::size_t lane) {
    return inner_ == 1 ? (channel + lane) % channels_ : channel;
  };
  std::size_t i = first;
  const std::size_t end = first + count;
  while (i + width <= end) {
    std::fill_n(lanes, width, 0.0F);
    for (std::size_t row = 0; row < kRows && i + width <= end; ++row, i += width) {
      for (std::size_t k = 0; k < width; ++k) lanes[k] += term(i + k, k);
    }
    for (std::size_t k = 0; k < width; ++k) totals_[place(k)] += static_cast<double>(lanes[k]);
  }
  for (std::size_t k = 0; i < end; ++i, ++k) {
    totals_[place(k)] += static_cast<double>(term(i, k));
  }
}

// The same of all elements, in stretches of one channel where a channel's follow each other.
template <typename Term>
void ChannelNumbers::add_all(Term term) noexcept {
  if (inner_ == 1) return add(0, values_.size(), term);
  for (std::size_t first = 0; first < values_.size(); first += inner_) add(first, inner_, term);
}

void ChannelNumbers::measure(const void* input, ElementType type,
                             std::span<double> numbers) noexcept {
  switch (type) {
    case ElementType::kInt8:
      read(static_cast<const std::int8_t*>(input));
      break;
    case ElementType::kUint8:
      read(static_cast<const std::uint8_t*>(input));
      break;
    case ElementType::kInt16:
      read(static_cast<const std::int16_t*>(input));
      break;
    case ElementType::kFloat32:
      read(static_cast<const float*>(input));
      break;
  }
  const float* const x = values_.data();
  const std::size_t stride = size_ / channels_;
  const double each = static_cast<double>(values_.size()) / static_cast<double>(channels_);
  const auto take = [&](std::size_t number, double divisor) {
    for (std::size_t c = 0; c < channels_; ++c) {
      numbers[stride * c + number] += std::exchange(totals_[c], 0.0) / divisor;
    }
  };
  std::fill(numbers.begin(), numbers.end(), 0.0);
  std::fill(totals_.begin(), totals_.end(), 0.0);
  add_all([x](std::size_t i, std::size_t) { return x[i]; });
  take(0, each);
  if (stride == 1) return;

  if (inner_ == 1) {
    float* const middles = middles_.data();
    for (std::size_t k = 0; k < middles_.size(); ++k) {
      middles[k] = static_cast<float>(numbers[stride * (k % channels_)]);
    }
    add(0, values_.size(), [x, middles](std::size_t i, std::size_t lane) {
      const float away = x[i] - middles[lane];
      return away * away;
    });
  } else {
    for (std::size_t first = 0; first < values_.size(); first += inner_) {
      const auto middle = static_cast<float>(numbers[stride * (first / inner_ % channels_)]);
      add(first, inner_,
          [x, middle](std::size_t i, std::size_t) { return (x[i] - middle) * (x[i] - middle); });
    }
  }
  take(1, each);
  for (std::size_t c = 0; c < channels_; ++c) {
    numbers[stride * c + 1] = std::sqrt(numbers[stride * c + 1]);
  }

  for (const Smooth& one : smooth_) {
    const std::size_t step = one.step;
    const auto steps = [x, step](std::size_t i, std::size_t) {
      return std::fabs(x[i + step] - x[i]);
    };
    for (std::size_t block = 0; block < one.blocks; ++block) {
      const std::size_t first = block * one.length;
      const std::size_t end = first + one.length - step;
      if (inner_ == 1 || one.length <= inner_) {
        add(first, end - first, steps);
      } else {
        for (std::size_t at = first; at < end; at += inner_) add(at, inner_, steps);
      }
    }
    const auto pairs =
        static_cast<double>(one.blocks * (one.length - step)) / static_cast<double>(channels_);
    take(2, pairs * static_cast<double>(smooth_.size()));
  }
}

std::size_t ChannelNumbers::memory_bytes() const noexcept {
  return sizeof *this + smooth_.capacity() * sizeof(Smooth) +
         sizeof(float) * (values_.capacity() + lanes_.capacity() + middles_.capacity()) +
         sizeof(double) * totals_.capacity();
}

}  // namespace selfheal
